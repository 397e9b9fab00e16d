"""The first quarter of an hour of somebody who writes a plugin: a project from the template, installed, used, tested, renamed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging_support import Environment

from harness.documents import plugins_of
from harness.repository import ROOT
from img_core.spec.kinds import KINDS
from img_core.testing.templates import KINDS_WITH_TEMPLATE

pytestmark = pytest.mark.rootless

NAME = "first-try"
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def author(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """The environment of an author, with img and the suites in it, and a small build context."""
    environment = Environment.create(tmp_path_factory.mktemp("author"))
    environment.install(wheel)
    context = environment.home / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
    (context / "Running").write_text('FROM scratch\nCOPY busybox /bin/\nRUN ["/bin/busybox", "true"]\n')
    (context / "Named").write_text("FROM scratch\nCOPY --from=files one /\n")
    (context / "FirstTryfile").write_text("file /copied\n")
    (context / "Whispered").write_text(
        "FROM scratch\nCOPY busybox /bin/\n"
        'RUN --mount=type=secret,id=token ["/bin/busybox", "cp", "/run/secrets/token", "/heard"]\n'
    )
    (context / "Divided").write_text(
        "FROM scratch AS base\nCOPY busybox /bin/\n"
        'FROM base AS one\nRUN ["/bin/busybox", "mkdir", "/one"]\nFROM base AS two\nRUN ["/bin/busybox", "mkdir", "/two"]\n'
        "FROM scratch\nCOPY --from=one /one /one\nCOPY --from=two /two /two\n"
    )
    (context / "file").write_text("content\n")
    shutil.copy("/bin/busybox", context / "busybox")
    assert environment.img("build", "-t", "registry.example/app:1", "context").returncode == 0
    return environment


def configure(author: Environment, kind: str) -> None:
    """Let the plugin be asked, as the project's README says."""
    directory = author.home / ".config/img"
    directory.mkdir(parents=True, exist_ok=True)
    readme = (author.home / f"img-{kind}-{NAME}/README.md").read_text()
    (directory / "config.toml").write_text(readme.partition("```toml\n")[2].partition("```")[0])


def export(author: Environment) -> None:
    ok(author.img("build", "-o", f"type={NAME},dest=files.txt", "context"))
    assert (author.home / "files.txt").read_text().endswith("/file\n")


def plan(author: Environment) -> None:
    ok(author.img("build", "--frontend", NAME, "-o", "planned", "context"))
    assert (author.home / "planned/copied").read_text() == "content\n"


def fetch(author: Environment) -> None:
    words = ("-f", "context/Named", "--build-context", f"files={NAME}://one,two", "-o", "fetched")
    ok(author.img("build", *words, "context"))
    assert (author.home / "fetched/one").read_text() == "this is one\n"


def push(author: Environment) -> None:
    configure(author, "registry")
    ok(author.img("push", "registry.example/app:1"))
    ok(author.img("rm", "registry.example/app:1"))
    ok(author.img("pull", "registry.example/app:1"))
    assert "registry.example/app" in author.img("ls").stdout


def run(author: Environment) -> None:
    ok(author.img("build", "--no-cache", "--executor", NAME, "-f", "context/Running", "-t", "ran", "context"))


def stack(author: Environment) -> None:
    ok(author.img("build", "-b", NAME, "-f", "context/Running", "-t", "stacked", "context"))


def load(author: Environment) -> None:
    ok(author.img("save", "-o", "image.tar", "registry.example/app:1"))
    (author.home / "image").write_bytes(f"{NAME} 1\n".encode() + (author.home / "image.tar").read_bytes())
    configure(author, "importer")
    assert "registry.example/app:1" in ok(author.img("load", "-i", "image")).stdout


def log_out(author: Environment) -> None:
    configure(author, "credentials")
    directory = author.home / ".config" / NAME
    directory.mkdir(mode=0o700)
    (directory / "credentials.json").write_text('{"registry.example": {"username": "joe", "password": "pw"}}')
    ok(author.img("logout", "registry.example"))
    assert (directory / "credentials.json").read_text() == "{}"


def show(author: Environment) -> None:
    done = ok(author.img("build", "--no-cache", "--progress", NAME, "-t", "shown", "context"))
    assert re.search(r"^ +\d+\.\ds  .*COPY file /$", done.stderr, re.MULTILINE)


def count(author: Environment) -> None:
    assert int(ok(author.img(NAME)).stdout)
    assert ok(author.img("-s", "nowhere", NAME)).stdout == "0\n"


def listen(author: Environment) -> None:
    heard = author.home / "heard"
    author.variables["FIRST_TRY_LOG"] = str(heard)
    ok(author.img("build", "-t", "heard", "context"))
    assert "COPY file /" in heard.read_text()


def share(author: Environment) -> None:
    place = f"type={NAME},directory=shared"
    ok(author.img("build", "--cache-to", place, "-t", "shared", "context"))
    done = ok(
        author.img("-s", "elsewhere", "build", "--progress=plain", "--cache-from", place, "-t", "shared", "context")
    )
    assert "CACHED" in done.stderr


def divide(author: Environment) -> None:
    chosen = ("--engine", f"{NAME},home=0", "--explain", "--progress=plain")
    done = ok(author.img("build", *chosen, "-f", "context/Divided", "-t", "divided", "context"))
    places = re.findall(r"^ran +\[.*\] RUN .*: on (worker-\d)\b", done.stderr, re.MULTILINE)
    assert len(places) == 2, done.stderr  # short steps may be one task, for one worker


def whisper(author: Environment) -> None:
    (author.home / "secrets.json").write_text('{"token": "s3cret"}')
    words = ("--secret", f"id=token,type={NAME},src=secrets.json", "-f", "context/Whispered", "-o", "whispered")
    ok(author.img("build", *words, "context"))
    assert (author.home / "whispered/heard").read_text() == "s3cret"


#: kind -> what its template does in a command
USES: dict[str, Callable[[Environment], None]] = {
    "exporter": export, "frontend": plan, "source": fetch, "registry": push, "executor": run, "snapshotter": stack,
    "importer": load, "credentials": log_out, "progress": show, "command": count, "listener": listen,
    "cache": share, "secret": whisper, "engine": divide,
}  # fmt: skip

#: of suites that take long, the tests that are run here: all of them are run for the drivers that these templates build on
SOME = {
    "executor": "Module or driver or (full and (exit_code or output or mounts))",
    "snapshotter": "not (single or thirty or kinds or fault or much)",
}


def ok(done: Done) -> Done:
    assert done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@dataclass(frozen=True)
class Project:
    directory: Path
    author: Environment

    def install(self) -> None:
        self.author.pip("install", "--no-index", "--no-deps", "--no-build-isolation", "-e", str(self.directory))

    def test(self, kind: str) -> Done:
        """Run the project's own tests, with the author's interpreter."""
        python = str(self.author.path / "bin/python")
        chosen = ["-k", SOME[kind]] if kind in SOME else []
        return self.author._run(
            [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(self.directory), *chosen], check=False
        )


def test_there_is_a_template_for_each_kind() -> None:
    assert set(USES) == set(KINDS_WITH_TEMPLATE)
    assert set(KINDS) == set(USES)


@pytest.mark.parametrize("kind", USES)
def test_the_first_quarter_of_an_hour(author: Environment, kind: str) -> None:
    began = _processor_time()
    made = Path(ok(author.img("plugins", "new", kind, NAME)).stdout.strip())
    project = Project(author.home / made, author)
    project.install()
    try:
        assert author.statuses("--kind", kind)[f"{kind}:{NAME}"] == "ok"
        done = ok(project.test(kind))
        assert re.search(r"^\d+ passed", done.stdout.splitlines()[-1]), done.stdout
        assert "skipped" not in done.stdout
        assert _processor_time() - began < 60, "on a machine of one's own it is well below a minute"
        USES[kind](author)
        _rename(project, kind)
        statuses = author.statuses("--kind", kind)
        assert statuses[f"{kind}:renamed"] == "ok"
        assert f"{kind}:{NAME}" not in statuses
    finally:
        author.pip("uninstall", "--yes", project.directory.name)
        (author.home / ".config/img/config.toml").unlink(missing_ok=True)
        author.variables.clear()
    assert f"{kind}:renamed" not in author.statuses("--kind", kind)


def _processor_time() -> float:
    """Return the seconds that our processes took: other people's do not count."""
    times = os.times()
    return times.children_user + times.children_system


def _rename(project: Project, kind: str) -> None:
    """Give the plugin another word, as its author would."""
    path = project.directory / "pyproject.toml"
    text = path.read_text()
    assert f"\n{NAME} = " in text
    path.write_text(text.replace(f"\n{NAME} = ", "\nrenamed = "))
    project.install()


@pytest.mark.parametrize("kind", USES)
def test_a_new_project_is_tidy_and_typed(author: Environment, kind: str, tmp_path: Path) -> None:
    ok(author.img("plugins", "new", kind, "a1-b", "--directory", str(tmp_path)))
    (project,) = tmp_path.iterdir()
    for words in (["ruff", "check", "--no-cache", "."], ["ruff", "format", "--no-cache", "--check", "."]):
        done = subprocess.run([sys.executable, "-m", *words], cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    _assert_typed(author, project)
    assert "{{" not in "".join(path.read_text() for path in project.rglob("*") if path.is_file())


def _assert_typed(author: Environment, directory: Path) -> None:
    """Have mypy look at what is in *directory*, as somebody sees it who has img installed."""
    words = ["--cache-dir", str(author.home / ".mypy"), "--python-executable", str(author.path / "bin/python")]
    named = [] if (directory / "pyproject.toml").exists() else sorted(path.name for path in directory.glob("*.py"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *words, *named], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{author.site_packages}\n{done.stdout}{done.stderr}"


def test_the_examples_of_the_how_tos_are_typed(author: Environment, tmp_path: Path) -> None:
    """What runs is tried in `tests/integration/test_documented_commands.py`; this looks at what does not."""
    for page in (ROOT / "docs/how-to").glob("*.md"):
        for name, text in plugins_of(page).items():
            (tmp_path / name.replace("-", "_")).write_text(text)
    assert len(list(tmp_path.iterdir())) >= len(KINDS)
    _assert_typed(author, tmp_path)
