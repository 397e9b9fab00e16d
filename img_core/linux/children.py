"""End what was started and everything that came of it, where no pid namespace does it.

The caller is a subreaper (``PR_SET_CHILD_SUBREAPER``): the orphans of whatever ends become its children, so killing children until there
are none ends all descendants, whatever session, group or user they changed to.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["end", "of_this_process"]


def of_this_process() -> list[int]:
    """Return the process ids of our children, ended ones included. We must have a single thread."""
    own = os.getpid()
    try:
        with open(f"/proc/self/task/{own}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [int(name) for name in os.listdir("/proc") if name.isdecimal() and _parent(name) == own]


def _parent(name: str) -> int:
    try:
        with open(f"/proc/{name}/stat", "rb") as file:
            # see proc_pid_stat(5); the name in parentheses may hold anything
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0


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
