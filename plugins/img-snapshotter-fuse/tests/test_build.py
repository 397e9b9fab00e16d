"""Whole builds with ``-b fuse-overlayfs``, by the command, with the plugin installed."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from img_core.testing.executor_lab import BUSYBOX

INSTALLED = "fuse-overlayfs" in entry_points(group="img.snapshotters").names
pytestmark = [
    pytest.mark.rootless,
    pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse may not be opened"),
    pytest.mark.skipif(not INSTALLED, reason="img and img-snapshotter-fuse are not installed"),
    pytest.mark.skipif(not os.access(BUSYBOX, os.X_OK), reason="needs a static busybox"),
]

DOCKERFILE = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir -p /a/b && echo text > /a/b/c && ln /a/b/c /a/d && rm /bin/vi && chmod 4755 /a/d
RUN rm -r /a/b && mkdir /a/b && mv /bin/sed /bin/moved && echo more >> /a/d
"""


class Commands:
    """The command ``img`` with a state and a context of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = str(directory / "state")
        self.builder: subprocess.Popen[str] | None = None
        self.context = directory / "context"
        self.context.mkdir()
        shutil.copy(BUSYBOX, self.context / "busybox")

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "img_core", "-s", self.state, *words]

    def use(self, dockerfile: str) -> None:
        (self.context / "Dockerfile").write_text(dockerfile)

    def start(self, step: str) -> subprocess.Popen[str]:
        """Begin to build the usual steps and one more."""
        self.use(f"{DOCKERFILE}RUN {step}\n")
        command = self.words("build", "-b", "fuse-overlayfs", "-t", "x", str(self.context))
        self.builder = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        return self.builder

    def close(self) -> None:
        """End a builder that a failed test has left."""
        if self.builder and self.builder.poll() is None:
            self.builder.kill()
            self.builder.communicate()

    def wait_for_the_step(self, builder: subprocess.Popen[str]) -> list[int]:
        """Wait for the file /started; return the builder's processes, of which one serves the step's mount."""
        # not that of a path, which fails if a directory is removed meanwhile
        wait_until(lambda: glob.glob(f"{self.state}/*/*/*/fs/started"), 60)
        below = descendants(builder.pid)
        assert any(map(serves, below))
        return below

    def build(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = self.words("build", *words, str(self.context))
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done


MAPPINGS = ["full", "single"] if os.geteuid() else ["root"]
one_mapping = pytest.mark.parametrize("commands", MAPPINGS[:1], indirect=True)


@pytest.fixture(params=MAPPINGS)
def commands(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """A context with the Dockerfile above."""
    if request.param != "root":
        monkeypatch.setenv("IMG_IDMAP", request.param)
    made = Commands(tmp_path)
    made.use(DOCKERFILE)
    yield made
    made.close()


def listing(archive: Path) -> list[str]:
    lines = subprocess.run(["tar", "tvf", archive], capture_output=True, text=True, check=True).stdout.splitlines()
    return [" ".join(line.split()[:3] + line.split()[5:]) for line in lines]


def test_the_result_is_that_of_overlayfs(commands: Commands, tmp_path: Path) -> None:
    for backend in ("overlayfs", "fuse-overlayfs"):
        commands.build("--no-cache", "-b", backend, "-o", f"type=tar,dest={tmp_path}/{backend}.tar")
    assert listing(tmp_path / "fuse-overlayfs.tar") == listing(tmp_path / "overlayfs.tar")


@one_mapping
@pytest.mark.parametrize("server", ["pyfuse3", "program"])
def test_steps_of_overlayfs_are_reused_and_the_other_way_round(
    commands: Commands, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(server, monkeypatch)
    commands.build("-b", "overlayfs", "-t", "x", "--progress", "plain")
    assert commands.build("-b", "fuse-overlayfs", "-t", "x", "--progress", "plain").stderr.count("CACHED") >= 3
    with open(commands.context / "Dockerfile", "a") as file:
        file.write("RUN cat /a/d && rm /a/d\n")
    commands.build("-b", "fuse-overlayfs", "-t", "x", "--progress", "plain")
    assert commands.build("-b", "overlayfs", "-t", "x", "--progress", "plain").stderr.count("CACHED") >= 4


@one_mapping
@pytest.mark.parametrize("server", ["pyfuse3", "program"])
def test_nothing_is_left_when_the_builder_is_killed(
    commands: Commands, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(server, monkeypatch)
    builder = commands.start("touch /started; sleep 800000")
    below = commands.wait_for_the_step(builder)
    builder.kill()
    builder.communicate(timeout=20)
    wait_until(lambda: not exist(below), 2)
    commands.use(DOCKERFILE)
    commands.build("-b", "fuse-overlayfs", "-t", "x")


@one_mapping
@pytest.mark.parametrize("server", ["pyfuse3", "program"])
def test_when_the_server_is_killed_the_build_fails_and_the_next_one_works(
    commands: Commands, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(server, monkeypatch)
    builder = commands.start("touch /started; while cat /a/d; do sleep 0.02; done")
    below = commands.wait_for_the_step(builder)
    for pid in filter(serves, below):
        os.kill(pid, signal.SIGKILL)
    _, errors = builder.communicate(timeout=20)
    assert builder.returncode == 7
    assert errors.count("Error: ") == 1
    assert "Error: the server of a FUSE mount has failed" in errors
    assert "Traceback" not in errors
    wait_until(lambda: not exist(below), 2)
    commands.use(DOCKERFILE)
    commands.build("-b", "fuse-overlayfs", "-t", "x")


def choose(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if server == "program":
        if shutil.which("fuse-overlayfs") is None:
            pytest.skip("the program fuse-overlayfs is not installed")
        monkeypatch.setenv("IMG_FUSE_OVERLAYFS", "fuse-overlayfs")


def descendants(ancestor: int) -> list[int]:
    """Return all processes below *ancestor*."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [ancestor]
    for above in found:
        found += [pid for pid, parent in parents.items() if parent == above]
    return found[1:]


def serves(pid: int) -> bool:
    """Tell whether a process answers the requests of a FUSE mount."""
    try:
        return any(os.readlink(fd) == "/dev/fuse" for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def exist(pids: list[int]) -> bool:
    return any(Path(f"/proc/{pid}").exists() for pid in pids)


def wait_until(condition: object, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)
