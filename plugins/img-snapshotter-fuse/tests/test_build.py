"""Whole builds with ``-b fuse-overlayfs``, by the command, with the plugin installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
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
        self.context = directory / "context"
        self.context.mkdir()
        shutil.copy(BUSYBOX, self.context / "busybox")

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "img_core", "-s", str(self.directory / "state"), *words]

    def build(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = self.words("build", *words, str(self.context))
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done


@pytest.fixture(params=["full", "single"] if os.geteuid() else ["root"])
def commands(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """A context with the Dockerfile above."""
    if request.param != "root":
        monkeypatch.setenv("IMG_IDMAP", request.param)
    made = Commands(tmp_path)
    (made.context / "Dockerfile").write_text(DOCKERFILE)
    return made


def listing(archive: Path) -> list[str]:
    lines = subprocess.run(["tar", "tvf", archive], capture_output=True, text=True, check=True).stdout.splitlines()
    return [" ".join(line.split()[:3] + line.split()[5:]) for line in lines]


def test_the_result_is_that_of_overlayfs(commands: Commands, tmp_path: Path) -> None:
    for backend in ("overlayfs", "fuse-overlayfs"):
        commands.build("--no-cache", "-b", backend, "-o", f"type=tar,dest={tmp_path}/{backend}.tar")
    assert listing(tmp_path / "fuse-overlayfs.tar") == listing(tmp_path / "overlayfs.tar")


def test_steps_of_overlayfs_are_reused_and_the_other_way_round(commands: Commands) -> None:
    commands.build("-b", "overlayfs", "-t", "x", "--progress", "plain")
    assert commands.build("-b", "fuse-overlayfs", "-t", "x", "--progress", "plain").stderr.count("CACHED") >= 3
    with open(commands.context / "Dockerfile", "a") as file:
        file.write("RUN cat /a/d && rm /a/d\n")
    commands.build("-b", "fuse-overlayfs", "-t", "x", "--progress", "plain")
    assert commands.build("-b", "overlayfs", "-t", "x", "--progress", "plain").stderr.count("CACHED") >= 4


def test_nothing_is_left_when_the_builder_is_killed(commands: Commands) -> None:
    marker = str(800_000 + os.getpid())
    with open(commands.context / "Dockerfile", "a") as file:
        file.write(f"RUN sleep {marker}\n")
    builder = subprocess.Popen(
        commands.words("build", "-b", "fuse-overlayfs", "-t", "x", str(commands.context)), stderr=subprocess.DEVNULL
    )
    wait_until(lambda: any("sleep" in line for line in processes(marker)), 60)
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    wait_until(lambda: not processes(marker), 2)
    with open(commands.context / "Dockerfile", "w") as file:
        file.write(DOCKERFILE)
    commands.build("-b", "fuse-overlayfs", "-t", "x")


def processes(marker: str) -> list[str]:
    """Return the command lines that have *marker* in them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if marker.encode() in words:
            found.append(repr(words))
    return found


def wait_until(condition: object, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)
