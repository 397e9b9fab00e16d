"""Commands that run beside a test: nobody waits for one for ever, and what is left of one at the end of its test is told and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from harness.processes import descendants

__all__ = ["Started", "pytest_runtest_teardown", "tree"]

#: Seconds in which every command ends that shall end, also on a machine that has ten times as much to do as it can.
_PATIENCE = 60.0
_LAST_WORDS = 5.0  # seconds
_SHOWN = 20_000  # bytes


class Started(subprocess.Popen[bytes]):
    """A command in a process group of its own. Its standard error goes to the file *log*, and there its stacks, if it has to be ended."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path | None = None) -> None:
        self._errors = os.open(log, os.O_RDWR | os.O_CREAT | os.O_TRUNC) if log else os.memfd_create("errors")
        weakref.finalize(self, os.close, self._errors)
        super().__init__(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._errors,
            env={**environment, "PYTHONFAULTHANDLER": "1"}, start_new_session=True,
        )  # fmt: skip
        _running.add(self)

    def wait(self, timeout: float | None = None) -> int:
        """Return its status. Raises TimeoutExpired when it does not end: after a minute if no *timeout* is given."""
        return super().wait(_PATIENCE if timeout is None else timeout)

    def end(self) -> str:
        """End it; return what it and its processes were doing, and the last that it wrote."""
        doing = "\n".join(tree(self.pid))
        self.send_signal(signal.SIGABRT)  # on which Python writes the stacks of all threads
        try:
            super().wait(_LAST_WORDS)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        super().wait(_PATIENCE)
        wrote = os.pread(self._errors, _SHOWN, max(0, os.fstat(self._errors).st_size - _SHOWN))
        return f"left running: {self.args!r}\n{doing}\n{wrote.decode(errors='replace')}\n"


_running: weakref.WeakSet[Started] = weakref.WeakSet()


def tree(top: int) -> Iterator[str]:
    """Describe the process *top* and all below it: where the kernel has each of their threads, and what they have open."""
    for pid in (top, *sorted(descendants(top))):
        directory = Path(f"/proc/{pid}")
        try:
            yield f"{pid}: {(directory / 'cmdline').read_bytes().replace(bytes(1), b' ').decode(errors='replace')}"
            for task in sorted((directory / "task").iterdir()):
                state = (task / "stat").read_text().rpartition(")")[2].split()[0]
                yield f"  {(task / 'comm').read_text().strip()} {state} {(task / 'wchan').read_text()}"
            for opened in sorted((directory / "fd").iterdir()):
                yield f"  {opened.name} -> {opened.readlink()}"
        except OSError as err:
            yield f"{pid}: {err}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """End what the test has left, before its directories go; the report of a failed test shows it."""
    for process in list(_running):
        if process.poll() is None:
            sys.stdout.write(process.end())
    _running.clear()
