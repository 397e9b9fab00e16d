"""Faults below Python: SQLite's own reads and writes fail, and the process is killed at any of its system calls.

``IMG_TEST_FAULT_STEP=1`` tries every number instead of some of them.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.bases import BUSYBOX_CONFIG, busybox_root, write_oci_archive
from harness.fixtures import load
from harness.fork_commands import ForkCommands
from harness.host import need
from harness.img import Img, environment, remove_as_mapped_root, write_context
from harness.processes import Orphans
from img_core.testing.faulty_registry import FaultyRegistry
from img_core.testing.images import make_image

pytestmark = [pytest.mark.rootless, pytest.mark.slow]

HARNESS = Path(__file__).parents[1] / "harness"
BUSYBOX = "docker.io/library/busybox:latest"
OTHER = "docker.io/library/other:latest"
STEP = int(os.environ.get("IMG_TEST_FAULT_STEP", "0"))
SAMPLES = 6  #: faults of one command, when not all are tried


def compiled(directory: Path, source: str, *flags: str) -> Path:
    need("gcc")
    result = directory / Path(source).stem
    subprocess.run(["gcc", "-O1", *flags, "-o", result, HARNESS / source, "-ldl"], check=True)
    return result


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a state with an image, a cached step, and something to prune."""
    directory = tmp_path_factory.mktemp("used")
    archive = write_oci_archive(
        directory / "base.tar", [busybox_root("sh", "cat")], name=BUSYBOX, config=BUSYBOX_CONFIG
    )
    load(directory / "state", archive, directory)
    img = Img(directory / "state", directory, (("IMG_IDMAP", "single"),))
    context = write_context(directory / "context", "FROM busybox\nCOPY a /a\nRUN cat /a > /b\n", {"a": "a" * 5000})
    img.build(context, "--backend", "native", tag="other").ok()
    img.build(context, "--backend", "native", "--no-cache", tag="dropped").ok()
    img.run("rm", "dropped").ok()
    yield directory / "state"
    remove_as_mapped_root(directory / "state")


@pytest.fixture
def state(used: Path, tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "state"
    remove_as_mapped_root(tmp_path / "state")


def renew(state: Path, used: Path) -> None:
    if state.exists():
        remove_as_mapped_root(state)
    shutil.copytree(used, state, symlinks=True)


# --- SQLite's input and output


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkCommands]:
    directory = tmp_path_factory.mktemp("faulty")
    library = compiled(directory, "sqlite_faults.c", "-shared", "-fPIC")
    variables = environment(directory, LD_PRELOAD=str(library), IMG_IDMAP="single")
    with ForkCommands(variables) as server:
        yield server


COMMANDS: dict[str, dict[str, object]] = {
    "tag": {"name": BUSYBOX, "new": "docker.io/library/new:latest"},
    "rm": {"name": OTHER},
    "prune": {},
    "list": {},
}


@pytest.mark.parametrize(
    ("error", "sticky"),
    [(errno.EIO, 0), (errno.ENOSPC, 0), (errno.ENOSPC, 1)],
    ids=["one EIO", "one ENOSPC", "ENOSPC from then on"],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_sqlite_cannot_write(
    faulty: ForkCommands, state: Path, used: Path, command: str, error: int, sticky: int
) -> None:
    renew(state, used)
    before = faulty.run("list", state).ok().value["names"]
    count = faulty.run(command, state, **COMMANDS[command]).ok().below
    after = faulty.run("list", state).ok().value["names"]
    assert count > 3
    failed = 0
    for number in range(1, count + 1, STEP or max(1, count // SAMPLES)):
        renew(state, used)
        outcome = faulty.run(command, state, below_at=number, error=error, sticky=sticky, **COMMANDS[command])
        failed += outcome.status != 0
        assert outcome.status in (0, 1), f"at {number}: {outcome}"
        assert outcome.code != -1, f"at {number}: {outcome}"
        assert "\n" not in outcome.error, f"at {number}: {outcome}"
        found = faulty.run("check", state).ok().value
        assert found["integrity"] == "ok", f"at {number}"
        assert sorted(found["listed"]) in (before, after), f"at {number}: {outcome}"
        assert list((state / "run").iterdir()) == [], f"at {number}"
        again = faulty.run(command, state, **COMMANDS[command])
        assert again.status == 0, f"after {number}: {again}"
        assert faulty.run("list", state).ok().value["names"] == after, f"after {number}"
    assert failed or command == "list", "the faults reach SQLite"


# --- kill -9 at a system call


@pytest.fixture(scope="module")
def kill_at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("tracer"), "kill_at.c")


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkCommands]:
    with ForkCommands(environment(tmp_path_factory.mktemp("home"), IMG_IDMAP="single")) as server:
        yield server


@dataclass(frozen=True, slots=True)
class Scene:
    """What commands may name."""

    directory: Path
    registry: str


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("scene")
    write_context(directory / "context", "FROM busybox\nCOPY b /b\nRUN cat /b > /c\n", {"b": "b" * 5000})
    write_oci_archive(
        directory / "load.tar", [busybox_root("sh", "ls")], name="docker.io/library/new:latest", config={}
    )
    (directory / "root.tar").write_bytes(subprocess.check_output(["tar", "c", "-C", directory, "context"]))
    with FaultyRegistry() as registry:
        registry.add("base", "1", make_image([{"one": b"1"}, {"two": b"2" * 100_000}]))
        yield Scene(directory, registry.address)


KILLED: dict[str, Callable[[Scene], list[str | Path]]] = {
    "build on native": lambda scene: ["build", "--backend", "native", "-t", "new", scene.directory / "context"],
    "build on overlayfs": lambda scene: ["build", "--backend", "overlayfs", "-t", "new", scene.directory / "context"],
    "pull": lambda scene: ["pull", f"{scene.registry}/base:1"],
    "load": lambda scene: ["load", "-i", scene.directory / "load.tar"],
    "import": lambda scene: ["import", scene.directory / "root.tar", "new"],
    "tag": lambda _scene: ["tag", "other", "new"],
    "rm": lambda _scene: ["rm", "other"],
    "prune": lambda _scene: ["prune", "-a"],
    "save": lambda scene: ["save", "-o", scene.directory / "saved.tar", "other"],
    "unpack": lambda scene: ["unpack", "-o", scene.directory / f"rootfs{random.randrange(1 << 40)}", "other"],
    "fsck": lambda _scene: ["fsck", "--repair", "--read-data"],
    "du": lambda _scene: ["du"],
}


@pytest.mark.parametrize("what", KILLED)
def test_killed_at_a_system_call(
    forked: ForkCommands, kill_at: Path, scene: Scene, state: Path, used: Path, tmp_path: Path, what: str
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    img = Img(state, tmp_path, (("IMG_IDMAP", "single"), ("TMPDIR", str(temporary))))

    def run(number: int) -> tuple[int, str]:
        done = subprocess.run(
            [kill_at, str(number), *img.command(*KILLED[what](scene))],
            env=img.environment(), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return done.returncode, done.stderr

    renew(state, used)
    before = forked.run("list", state).ok().value["names"]
    status, errors = run(0)
    assert status == 0, errors
    count = int(errors.rpartition("calls ")[2])
    assert count > 20
    after = forked.run("list", state).ok().value["names"]
    chosen = random.Random(what)
    numbers = range(1, count, STEP) if STEP else sorted(chosen.sample(range(count // 8, count), SAMPLES))
    with Orphans() as orphans:
        for number in numbers:
            renew(state, used)
            status, errors = run(number)
            assert status in (0, 137), f"at {number}: {errors}"
            orphans.gone(str(state), seconds=10)
            assert forked.run("list", state).ok().value["names"] in (before, after), f"at {number}"
            problems = forked.run("fsck", state).ok().value
            assert problems == [], f"at {number}: {json.dumps(problems)}"
            assert list(temporary.iterdir()) == [], f"at {number}"
            forked.run("prune", state).ok()
            assert list((state / "run").iterdir()) == [], f"at {number}"
    if after != before:
        status, errors = run(0)
        assert status == 0 or what == "rm", errors
        assert forked.run("list", state).ok().value["names"] == after
