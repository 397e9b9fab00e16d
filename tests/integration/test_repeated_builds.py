"""A build in which nothing changed is answered from a note; whatever changes, the build is done, and gives what it gave without notes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.fixtures import NewState
from harness.img import Finished, Img

pytestmark = pytest.mark.rootless

DOCKERFILE = "FROM busybox\nARG WHO=nobody\nCOPY --chmod=644 . /files\nLABEL who=$WHO\n"
#: What a build does not need for which nothing changed.
NEEDLESS = {
    *("click", "pluggy", "sqlite3", "json", "hashlib", "ctypes", "inspect", "pathlib", "importlib.metadata"),
    *("img_core.api", "img_core.plugins", "img_core.store", "img_core.config"),
}
#: Seconds in which a note must come to be: files have to be two seconds old.
PATIENCE = 60.0


class Project:
    """A context with a configuration of its own, built with a fixed command line."""

    def __init__(self, place: Path, img: Img, *flags: str, definition: str = DOCKERFILE) -> None:
        self.context = place / "context"
        self.config = place / "config"
        self.img = img.with_environment(XDG_CONFIG_HOME=str(self.config), XDG_CACHE_HOME=str(place / "cache"))
        self.flags = flags
        for name, text in (("Dockerfile", definition), (".dockerignore", "*.log\n"), ("a/one", "1111"), ("two", "2")):
            path = self.context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (self.context / "link").symlink_to("two")
        self.out.mkdir()

    def build(self, *more: str) -> Finished:
        return self.run(*more).ok()

    def run(self, *more: str) -> Finished:
        return self.img.run(
            "build", "-t", self.context.parent.name, *self.flags, *more, str(self.context), cwd=self.context.parent
        )

    @property
    def has_note(self) -> bool:
        return any(self.context.parent.glob("cache/img/repeated/*"))

    def image(self) -> str:
        notes = [json.loads(path.read_text()) for path in self.img.state.glob("names/*.json")]
        (found,) = (note for note in notes if f"/{self.context.parent.name}:" in note["name"])
        return json.dumps(found)

    def archives(self) -> dict[str, bytes]:
        """Return what was written to ``out``, and remove it."""
        found = {path.name: path.read_bytes() for path in self.out.iterdir()}
        for name in found:
            (self.out / name).unlink()
        return found

    @property
    def out(self) -> Path:
        return self.context.parent / "out"


def is_repeated(img: Img) -> bool:
    """Tell whether the last build was answered from a note: its log was written in one moment."""
    log = max(img.state.glob("logs/*.jsonl"))
    return len({json.loads(line).get("time") for line in log.read_text().splitlines()}) == 1


def shown(log: Path) -> list[dict[str, object]]:
    """Return the events of a log without their times."""
    return [{**json.loads(line), "time": 0} for line in log.read_text().splitlines()]


def timeless(text: str) -> str:
    """Return what was said without how long it took."""
    return re.sub(r" [0-9.]+s( done \(.*\))?$", "", text, flags=re.MULTILINE)


def imported(project: Project) -> set[str]:
    """Return the modules that building *project* imports."""
    words = project.img.command("build", "-t", project.context.parent.name, *project.flags, project.context)
    command = [words[0], "-X", "importtime", *words[1:]]
    done = subprocess.run(
        command, env=project.img.environment(), cwd=project.context.parent, capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def settle(*projects: Project) -> None:
    """Build until each has a note that counts."""
    end = time.monotonic() + PATIENCE
    waiting = list(projects)
    while waiting:
        assert time.monotonic() < end, [project.context for project in waiting]
        time.sleep(2)  # a note needs files that are two seconds old
        waiting = [
            project for project in waiting if not (project.build() and project.build() and is_repeated(project.img))
        ]


def kept_times(path: Path, text: str) -> None:
    """Write as many bytes, and set the time of modification back."""
    before = path.stat()
    assert len(text) == before.st_size
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def point(link: Path, target: str) -> None:
    link.unlink()
    link.symlink_to(target)


def configure(project: Project) -> None:
    project.config.joinpath("img").mkdir(parents=True)
    project.config.joinpath("img/config.toml").write_text("[collect]\nkeep-storage = '5GB'\n")


#: What may change in a project, and whether the image is another one then.
CHANGES: dict[str, tuple[Callable[[Project], object], bool]] = {
    "content": (lambda it: kept_times(it.context / "a/one", "1112"), True),
    "name": (lambda it: (it.context / "a/one").rename(it.context / "a/other"), True),
    "target of a link": (lambda it: point(it.context / "link", "a"), True),
    "ignore file": (lambda it: append(it.context / ".dockerignore", "two\n"), True),
    "definition": (lambda it: append(it.context / "Dockerfile", "LABEL more=1\n"), True),
    "ignored file": (lambda it: (it.context / "x.log").write_text("x"), False),
    "configuration": (configure, False),
}


@pytest.fixture
def projects(new_state: NewState, tmp_path: Path) -> dict[str, Project]:
    img = new_state()
    return {name: Project(tmp_path / f"p{number}", img) for number, name in enumerate(CHANGES)}


def test_a_change_is_never_missed(projects: dict[str, Project]) -> None:
    for project in projects.values():
        project.build()
    settle(*projects.values())
    missed = []
    for name, (change, matters) in CHANGES.items():
        project = projects[name]
        before = project.image()
        change(project)
        project.build()
        if is_repeated(project.img) or (project.image() != before) != matters:
            missed.append(name)
    assert missed == []


def test_what_is_said_again_is_the_same(new_state: NewState, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", new_state(), "--build-arg", "WHO")
    img = project.img = project.img.with_environment(WHO="me")
    project.build()
    settle(project)
    again = project.build()
    assert is_repeated(img)
    (project.context / "x.log").write_text("a change that does not matter")
    full = project.build()
    assert not is_repeated(img)
    assert (again.stdout, again.stderr) == (full.stdout, full.stderr)
    settle(project)
    repeated = imported(project)
    assert is_repeated(img)
    assert repeated & NEEDLESS == set()
    assert len(repeated) < 120
    first, second = (shown(log) for log in sorted(img.state.glob("logs/*.jsonl"))[-2:])
    assert first == second
    project.img = img.with_environment(WHO="you")  # a variable that the command line names
    project.build()
    assert not is_repeated(img)
    with_more = project.build("--label", "a=b")
    assert not is_repeated(img)
    assert with_more.stderr


def test_what_happens_to_the_state_counts(new_state: NewState, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", new_state())
    img = project.img
    project.build()
    for happens in (
        ["tag", "busybox", "project"],
        ["rm", "project"],
        ["builder", "prune", "-a", "-f"],
    ):
        settle(project)
        img.run(*happens).ok()
        project.build()
        assert not is_repeated(img), happens
        assert project.image()
    settle(project)
    img.run("plugins", "disable", "snapshotter:overlayfs").ok()
    project.build()
    assert not is_repeated(img)


def test_a_build_that_asks_elsewhere_leaves_no_note(new_state: NewState, tmp_path: Path) -> None:
    """Beside one that does, with the same files: what it depends on cannot all be seen here."""
    img = new_state()
    plain, *others = (
        Project(tmp_path / f"p{number}", img, *flags)
        for number, flags in enumerate(
            [
                (),
                ("--no-cache",),
                ("--iidfile", "id"),
                ("--secret", "id=a,env=HOME"),
                ("-o", "type=tar,dest=out.tar"),
                ("-o", "type=oci,dest=out.tar", "-o", "type=local,dest=files"),
                ("-o", "type=oci,tar=false,dest=layout"),
                ("-o", "type=oci,dest=-"),
                ("-o", "type=oci,dest=context/out.tar"),
                ("--progress=rawjson",),
            ]
        )
    )
    for project in (plain, *others):
        project.build()
    settle(plain)
    for project in others:
        project.build()
        assert not project.has_note, project.flags


#: Outputs that are written again.
ARCHIVES: dict[str, tuple[str, ...]] = {
    "names": ("-o", "type=oci,dest=out/a,name=other:1"),
    "docker": ("-o", "type=docker,dest=out/a"),
    "two": ("-o", "type=oci,dest=out/a,annotation.one=1", "-o", "type=docker,dest=out/b"),
    "platforms": (
        "--platform=linux/amd64,linux/arm64",
        "-o",
        "type=oci,dest=out/a,annotation-index.one=1,annotation-manifest-descriptor.two=2,annotation-index-descriptor.three=3",
    ),
    "times": ("--build-arg", "SOURCE_DATE_EPOCH=1", "-o", "type=oci,dest=out/a,rewrite-timestamp=true"),
    "compression": ("-o", "type=oci,dest=out/a,compression=zstd,force-compression=true,oci-mediatypes=false"),
}


def test_archives_are_written_again_as_they_were(new_state: NewState, tmp_path: Path) -> None:
    img = new_state()
    projects = [
        Project(tmp_path / f"p{number}", img, *flags, definition=DOCKERFILE.replace("busybox", "scratch"))
        for number, flags in enumerate(ARCHIVES.values())
    ]
    for project in projects:
        project.build()
    settle(*projects)
    differ = []
    for name, project in zip(ARCHIVES, projects, strict=True):
        before = project.archives()
        again = project.build()
        assert is_repeated(img), name
        written = project.archives()
        (project.context / "x.log").write_text("a change that does not matter")
        full = project.build()
        assert not is_repeated(img), name
        if (
            not written
            or not before == written == project.archives()
            or timeless(again.stderr) != timeless(full.stderr)
        ):
            differ.append(name)
    assert differ == []


def test_an_archive_is_written_as_by_a_build(new_state: NewState, tmp_path: Path) -> None:
    """Or not written, and the build tells why."""
    project = Project(tmp_path / "project", new_state(), "-o", "type=oci,dest=out/a")
    img, dest = project.img, project.out / "a"
    project.build()
    settle(project)
    archive = dest.read_bytes()
    assert imported(project) & NEEDLESS <= {"hashlib"}
    assert is_repeated(img)
    dest.write_bytes(b"of somebody, who may read it alone")
    dest.chmod(0o600)
    project.build()
    assert is_repeated(img)
    assert dest.read_bytes() == archive
    assert dest.stat().st_mode & 0o777 == 0o600
    dest.rename(project.out / "b")
    dest.symlink_to("b")
    project.build()
    assert is_repeated(img)
    assert dest.is_symlink()
    assert (project.out / "b").read_bytes() == archive
    dest.unlink()
    dest.symlink_to("/dev/null")
    project.build()
    assert not is_repeated(img)
    dest.unlink()
    dest.mkdir()
    project.run().refused(2, "destination file is a directory")
    dest.rmdir()
    project.out.rename(project.out.with_name("elsewhere"))
    project.run().refused(2, "cannot write `out/a`: there is no directory")
    project.out.with_name("elsewhere").rename(project.out)
    settle(project)
    blob = max((img.state / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.chmod(0o600)
    with blob.open("r+b") as file:
        file.seek(blob.stat().st_size // 2)
        file.write(b"damaged")
    project.archives()
    project.run().refused(1, "is damaged on disk")
    assert not dest.exists()


def test_an_archive_that_does_not_fit_is_told_by_the_build(new_state: NewState, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", new_state(), "-o", "type=oci,dest=out/a")
    project.build()
    settle(project)
    project.archives()
    words = project.img.command("build", "-t", "project", *project.flags, project.context)
    limited = ["sh", "-c", 'ulimit -f 1000; exec "$@"', "sh", *words]
    done = subprocess.run(
        limited, env=project.img.environment(), cwd=tmp_path / "project", capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.endswith("Error: file too large: `out/a`\n"), done.stderr
    assert os.listdir(project.out) == []
