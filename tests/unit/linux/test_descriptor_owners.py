"""A descriptor has one owner, who closes it once: its number is that of another file right afterwards, in some other thread."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from img_core.files import fs
from img_core.files.locks import RunDirectory
from img_core.files.logs import LogFile
from img_core.files.treewalk import Climber, walk
from img_core.linux import stdout
from img_core.linux.cancellation import Cancellation
from img_core.linux.zygote import Zygote, ZygoteProcess
from img_core.testing.processes import fork, status_of
from img_lib_layers.changes import TreeChanges
from img_lib_layers.copy_changes import CopyChanges, write_index
from img_lib_layers.overlay.layout import MountedRoot
from img_lib_layers.snapshots import DirectoryRoot


class Interrupted(KeyboardInterrupt):
    """What a signal raises right behind a system call."""


class Use(NamedTuple):
    """*work* may be interrupted anywhere; *end* releases what is left then."""

    work: Callable[[], object]
    end: Callable[[], object] = lambda: None


def closed_twice(close: Callable[[], object]) -> Use:
    return Use(close, close)


def directory(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def climbing(path: Path) -> Use:
    (path / "a/b").mkdir(parents=True)
    with fs.opened_directory(path) as root:
        climber = Climber(root)

    def work() -> None:
        climber.down(b"a")
        climber.down(b"b")
        climber.up()
        climber.close()

    return Use(work, climber.close)


def walking(path: Path) -> Use:
    (path / "a/b").mkdir(parents=True)

    def work() -> None:
        with fs.opened_directory(path) as root:
            list(walk(root))

    return Use(work)


def removing(path: Path) -> Use:
    (path / "a/b/c").mkdir(parents=True)
    return Use(lambda: fs.remove_tree(str(path / "a")))


def changes_of_a_copy(path: Path) -> Use:
    write_index(str(path / "index"), {})
    return closed_twice(CopyChanges(directory(path), "", str(path / "index"), directory(path)).close)


def process_of_a_zygote(path: Path) -> ZygoteProcess:
    ours, theirs = socket.socketpair()
    theirs.close()
    return ZygoteProcess(Zygote(ours, 0, -1), 0, os.pidfd_open(os.getpid()), ours, "")


USES: dict[str, Callable[[Path], Use]] = {
    "climber": climbing,
    "walk": walking,
    "removal of a tree": removing,
    "root of a snapshot": lambda path: closed_twice(DirectoryRoot(directory(path), directory(path)).close),
    "mount": lambda path: closed_twice(MountedRoot(directory(path)).close),
    "changes": lambda path: closed_twice(TreeChanges[None](directory(path), "").close),
    "changes of a copy": changes_of_a_copy,
    "run directory": lambda path: closed_twice(RunDirectory(str(path)).close),
    "log": lambda path: closed_twice(LogFile(str(path)).close),
    "cancellation": lambda _path: closed_twice(Cancellation().close),
    "process": lambda path: closed_twice(process_of_a_zygote(path).close),
}


@contextlib.contextmanager
def interrupting(number: int) -> Iterator[None]:
    """Let a signal arrive right behind the close(2) with that *number*."""
    real, closed = os.close, list[int]()

    def close(fd: int) -> None:
        real(fd)
        closed.append(fd)
        if len(closed) == number:
            raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "close", close)
        yield


@contextlib.contextmanager
def taken(number: int, fd: int) -> Iterator[None]:
    """Let the descriptor *number* be the file of *fd* for a block."""
    if fd != number:
        os.dup2(fd, number)
        os.close(fd)
    try:
        yield
    finally:
        os.close(number)


@pytest.mark.parametrize("name", USES)
def test_a_signal_behind_close_makes_nobody_close_it_again(tmp_path: Path, name: str) -> None:
    number, done = 0, False
    while not done:
        number += 1
        place = tmp_path / f"{number}"
        place.mkdir()
        use = USES[name](place)
        before = set(os.listdir("/proc/self/fd"))
        with interrupting(number):
            try:
                use.work()
                done = True
            except Interrupted:  # and not OSError
                pass
            use.end()
        assert set(os.listdir("/proc/self/fd")) <= before, "something was left open"
    assert number > 1


def test_who_stops_too_late_writes_into_no_other_file(tmp_path: Path) -> None:
    cancellation = Cancellation()
    number = cancellation.fd
    cancellation.close()
    with taken(number, os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT, 0o600)):
        cancellation.cancel()
    assert cancellation.canceled
    assert (tmp_path / "file").read_bytes() == b""


def test_who_kills_too_late_kills_nobody_else(tmp_path: Path) -> None:
    other = fork(signal.pause)
    process = process_of_a_zygote(tmp_path)
    number = process.pidfd
    process.close()
    with taken(number, os.pidfd_open(other)):
        try:
            process.kill()
        finally:
            os.kill(other, signal.SIGTERM)
            assert status_of(other) == -signal.SIGTERM


def test_a_forked_process_keeps_the_number_of_standard_output_for_nobody(tmp_path: Path) -> None:
    def child() -> None:
        sys.stdout = os.fdopen(os.dup(1), "w")
        stdout.reserve()
        stdout.close()
        file = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(stdout.descriptor(), b"data of a command")
        assert file != stdout.descriptor()

    assert status_of(fork(child)) == 0
    assert (tmp_path / "file").read_bytes() == b""
