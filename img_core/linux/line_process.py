"""Programs that get a text and print lines: the other end of ``img worker``, here or through a program that starts it elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from img_core.linux import syscalls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["LineProcess", "WaitingProcess"]

_TAIL = 20  #: lines of standard error that are kept
_GRACE = 5.0  #: seconds that a program has to end by itself
_LONGEST = 64 << 20  #: bytes of a line


class LineProcess:
    """Runs *command* in a session of its own with *text* on standard input; *tell* gets each line of its standard output, in order, from a
    thread. When this process ends, however that is, the program gets SIGTERM. Raises OSError if it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        text: str,
        tell: Callable[[str], None],
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._start(command, environment)
        self.begin(text, tell)

    def _start(self, command: Sequence[str], environment: Mapping[str, str] | None) -> None:
        self._errors: deque[str] = deque(maxlen=_TAIL)
        self._process = self._started(list(command), environment)
        self._threads: list[threading.Thread] = []
        self._beside(self._read_errors)

    def begin(self, text: str, tell: Callable[[str], None]) -> None:
        """Give it its *text*, and *tell* what it prints; once, and only what waits for that (`WaitingProcess`)."""
        self._beside(self._write, text)
        self._beside(self._read, tell)

    def _beside(self, do: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=do, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _started(self, command: list[str], environment: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
        """Start the program in a thread that lasts as long: the kernel signals the end of the thread that made a process (prctl(2))."""
        made: list[subprocess.Popen[bytes] | OSError] = []
        ready = threading.Event()
        us = os.getpid()

        def end_with_us() -> None:
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != us:  # it was too late
                os.kill(os.getpid(), signal.SIGTERM)

        def live() -> None:
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
                    start_new_session=True, preexec_fn=end_with_us,
                )  # fmt: skip
            except OSError as err:
                made.append(err)
                ready.set()
                return
            made.append(process)
            ready.set()
            process.wait()

        threading.Thread(target=live, daemon=True).start()
        ready.wait()
        (found,) = made
        if isinstance(found, OSError):
            raise found
        return found

    @property
    def pid(self) -> int:
        """The id of the process, which is that of its group, too."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def errors(self) -> str:
        """The last lines of its standard error, up to now; complete after `wait`."""
        return "\n".join(self._errors)

    @property
    def complaint(self) -> str:
        """The line of its standard error that says what went wrong: the last one with an ``Error:``, or the last one."""
        lines = [line for line in self._errors if line.strip()]
        marked = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
        return (marked or lines or [""])[-1]

    def wait(self) -> int:
        """Wait until it ended and all was told; return its status, or -n if signal n ended it."""
        status = self._process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()  # of one that never began
        return status

    def stop(self) -> None:
        """Ask it to end, and end it with its whole group if it does not; returns at once. Harmless when it has ended."""
        self._signal(signal.SIGTERM)
        threading.Thread(target=self._end, daemon=True).start()

    def _end(self) -> None:
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as stream:
            stream.write(text.encode())

    def _read(self, tell: Callable[[str], None]) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            while line := stream.readline(_LONGEST):
                tell(line.decode("utf-8", "backslashreplace").rstrip("\n"))

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            while line := stream.readline(_LONGEST):
                self._errors.append(line.decode("utf-8", "backslashreplace").rstrip("\n"))


class WaitingProcess(LineProcess):
    """Runs *command* like `LineProcess`, which waits for its text until `begin`."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        self._start(command, environment)
