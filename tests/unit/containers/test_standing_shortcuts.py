"""Where directories stand in ``/`` that a step may not have, the long way is for calls whose path ends in the name of one."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from img_lib_containers import seccomp
from img_lib_containers.fake_root import FakeRecords, FakeRoot, deliver
from img_lib_containers.standing import StandingDirectories
from img_lib_containers.supervised_calls import CALLS

STANDS = b"/usr"  #: what each machine has, and the step is not to see


def _error(call: Callable[[], object]) -> int:
    try:
        return 0 if call() is not False else errno.ENOENT
    except OSError as err:
        return err.errno or errno.EIO


#: what a step does in a directory with the file `f` -> the error that it gets, and whether the long way is taken
ROWS: dict[str, tuple[Callable[[], object], int, bool]] = {
    "remove a file": (lambda: os.unlink("f"), 0, False),
    "remove a directory": (lambda: os.rmdir("d"), 0, False),
    "rename": (lambda: os.rename("f", "g"), 0, False),
    "link": (lambda: os.link("f", "g"), 0, False),
    "enter": (lambda: os.chdir("d"), 0, False),
    "ask for one that is there": (lambda: os.access("f", os.R_OK), 0, False),
    "ask for one that is missing": (lambda: os.access("g", os.F_OK), errno.ENOENT, False),
    "remove one that is missing": (lambda: os.unlink("g"), errno.ENOENT, False),
    "ask for what stands": (lambda: os.access("/usr", os.F_OK), errno.ENOENT, True),
    "enter what stands": (lambda: os.chdir("/usr/"), errno.ENOENT, True),
    "remove what stands": (lambda: os.unlink("/./usr"), errno.ENOENT, True),
    "rename what stands": (lambda: os.rename("/usr", "/lib"), errno.ENOENT, True),
    "enter another of that name": (lambda: os.chdir("usr"), 0, True),
}


@pytest.mark.parametrize("what", ROWS)
def test_only_what_may_mean_a_standing_directory_goes_the_long_way(tmp_path: Path, what: str) -> None:
    (tmp_path / "f").write_text("")
    (tmp_path / "d").mkdir()
    (tmp_path / "usr").mkdir()
    do, error, long = ROWS[what]
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            os.chdir(tmp_path)
            code = 0 if _supervise(do) == (error, long) else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _supervise(do: Callable[[], object]) -> tuple[int, bool]:
    """Return the error that a step gets which does that, and whether a call went the long way."""
    filters = seccomp.fake_root_program(standing=True)
    assert filters is not None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            deliver(theirs, filters)
            code = _error(do)
        finally:
            os._exit(code)
    theirs.close()
    _, listeners, _, _ = socket.recv_fds(ours, 64, 1)
    standing = StandingDirectories(frozenset((STANDS,)), {STANDS})
    served = []

    class Noting(FakeRoot):
        def serve(self, notification: seccomp.Notification) -> None:
            served.append(CALLS[notification.architecture][notification.number].kind)
            super().serve(notification)

    Noting(listeners[0], FakeRecords(), standing=standing).run_until(os.pidfd_open(pid))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), bool(served)
