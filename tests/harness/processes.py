"""Finds processes and mounts that a command left behind."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.img import Img

__all__ = ["AT_ONCE", "Orphans", "descendants", "executing", "peak_memory", "run_and_watch", "running", "wait_until"]

_PR_SET_CHILD_SUBREAPER = 36


#: Seconds within which what ends at once has ended, on a machine that has ten times as much to do as it can.
#: What does not end at once takes longer: a step for ever, a stalled transfer half a minute.
AT_ONCE = 8.0


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 60.0) -> None:
    """Look every hundredth of a second until *condition* holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)


def running(words: str) -> list[int]:
    """Return the ids of all living processes whose command line has *words*, and not as the beginning of a longer word or number."""
    wanted = re.compile(re.escape(words) + r"(?![\w.])" if words[-1:].isalnum() else re.escape(words))
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and wanted.search(_command_line(int(entry.name))):
            found.append(int(entry.name))
    return [pid for pid in found if _state(pid) not in ("Z", "")]


def executing(*command: str) -> list[int]:
    """Return the ids of all living processes that are *command*, word by word, and thus stay until it ends.

    Not the shell that is to start it, nor what that forks before, which may be gone when somebody looks at it again.
    """
    words = " ".join([*command, ""])
    return [pid for pid in running(words) if _command_line(pid) == words]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _status(pid: int) -> tuple[str, int]:
    """Return state and parent."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", 0
    return fields[0], int(fields[1])


def _state(pid: int) -> str:
    return _status(pid)[0]


def descendants(top: int) -> set[int]:
    """Return the ids of all living processes below *top*."""
    parents = {int(entry.name): _status(int(entry.name)) for entry in os.scandir("/proc") if entry.name.isdigit()}
    found: set[int] = set()
    grown = {top}
    while grown:
        grown = {pid for pid, (state, parent) in parents.items() if parent in grown and state not in ("Z", "")} - found
        found |= grown
    return found


class Orphans:
    """Makes this process adopt what its children leave behind, so that a runaway cannot hide, and checks that there is nothing."""

    def __enter__(self) -> Orphans:
        self._adopt(True)
        self._before = descendants(os.getpid())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._adopt(False)
        self._reap()

    def gone(self, *words: str, seconds: float = AT_ONCE) -> None:
        """Insist that within *seconds* no process is left that was not there before, nor one whose command line has *words*."""
        wait_until(lambda: not self._left(words), "no process is left", seconds=seconds)

    def _left(self, words: tuple[str, ...]) -> set[int]:
        self._reap()
        found = descendants(os.getpid()) - self._before
        return found.union(*(running(word) for word in words))

    def _adopt(self, on: bool) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) == 0

    def _reap(self) -> None:
        """Collect dead orphans; children that Popen started are dead and collected already, or still run."""
        for entry in os.scandir("/proc"):
            if entry.name.isdigit() and _status(int(entry.name)) == ("Z", os.getpid()):
                try:
                    os.waitid(os.P_PID, int(entry.name), os.WEXITED | os.WNOHANG)
                except ChildProcessError:
                    pass


def peak_memory(pid: int) -> int:
    """Return the largest resident size that the process *pid* ever had, 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def run_and_watch(img: Img, log: Path, *arguments: str | Path) -> int:
    """Run a command; return the peak of the largest of its processes (those inside of containers are small here)."""
    builder: subprocess.Popen[bytes] = img.start(*arguments, log=log)
    largest = 0
    while builder.poll() is None:
        largest = max(largest, *(peak_memory(pid) for pid in {builder.pid, *descendants(builder.pid)}))
        time.sleep(0.02)
    assert builder.returncode == 0, log.read_text()
    return largest
