"""End what was started and everything that came of it, where no pid namespace does it.

The caller is a subreaper (``PR_SET_CHILD_SUBREAPER``): the orphans of whatever ends become its children, so killing children until there
are none ends all descendants, whatever session, group or user they changed to.
"""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING, Final

from img_core.linux import syscalls

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["end", "of_this_process", "started", "wait_for_end"]

_PATIENCE: Final = 10.0  # seconds


def of_this_process() -> list[int]:
    """Return the process ids of our children, ended ones included. We must have a single thread."""
    own = os.getpid()
    try:
        with open(f"/proc/self/task/{own}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [int(name) for name in os.listdir("/proc") if name.isdecimal() and _parent(name) == own]


def _parent(name: str) -> int:
    return int(_status(name, 1) or 0)


def _status(name: str, field: int) -> str:
    """Return a field of proc_pid_stat(5), counted from 0 after the name in parentheses, which may hold anything; empty if it is gone."""
    try:
        with open(f"/proc/{name}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[field].decode()
    except (OSError, IndexError):
        return ""


def started(pid: int) -> str:
    """Return when a process started, in ticks since boot; empty if there is none."""
    return _status(str(pid), 19)


def wait_for_end(pid: int, since: str) -> None:
    """Wait until the process *pid*, which `started` at *since* (empty: nobody knows), has ended, but not for long."""
    try:
        process = syscalls.pidfd_open(pid)
    except OSError:  # it has ended
        return
    try:
        if since and started(pid) == since:
            poll = select.poll()
            poll.register(process, select.POLLIN)
            poll.poll(_PATIENCE * 1000)
    finally:
        os.close(process)


def end(*, spare: Collection[int] = ()) -> None:
    """Kill and reap all children but those to *spare*, then their orphans, until there are none."""
    while found := [pid for pid in of_this_process() if pid not in spare]:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for pid in found:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass
