"""Talking to a program in JSON: it is started for one question, and answers in lines until it ends. What it does wrong is one line.

The question is its standard input, an object in one line. Each line that it writes to its standard output is an object with one of the keys
``progress`` (any number of them), ``result`` or ``error`` (one, at the end). It is killed when it is silent for too long, says too much or
something else, and when we end; what it started itself goes with its process group.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING, Any

from img_core.linux import userns
from img_core.spec.errors import ImgError
from img_core.spec.text import show, why

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["DialogueError", "as_the_user", "converse"]

_LINE = 1 << 20  #: most bytes of a line
_TOTAL = 32 << 20  #: most bytes of all lines
_KEPT = 4096  #: of what it writes to standard error, the end
_TICK = 0.1  #: seconds between two looks at whether it is to be ended

#: Becomes who the program shall be, and ends with us: argv is user id, group id (``-``: stay), parent, program, its arguments.
_BECOME = """
import ctypes, os, sys
def write(name, text):
    with open("/proc/self/" + name, "w") as file:
        file.write(text)
libc = ctypes.CDLL(None)
if sys.argv[1] != "-":
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(0x10000000) == 0:  # CLONE_NEWUSER
        write("setgroups", "deny")
        write("gid_map", f"{sys.argv[2]} {gid} 1")
        write("uid_map", f"{sys.argv[1]} {uid} 1")
if sys.argv[3] != "-":
    libc.prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
    if os.getppid() != int(sys.argv[3]):
        os._exit(1)
try:
    os.execv(sys.argv[4], sys.argv[4:])
except OSError as err:
    sys.exit(f"cannot be executed: {err.strerror}")
"""


class DialogueError(ImgError):
    """A program did not keep to the protocol, or did not end well; the message says what it did, and goes behind its name."""


def as_the_user() -> list[str]:
    """Return the start of a command line that runs the rest as the user who called us, and not as the root of our namespace.

    The message bus of a desktop, ssh and gpg look at who they are, and refuse a root that is none.
    """
    identity = userns.current()
    if identity is None or not identity.entered:
        return []
    return _becoming(str(identity.uid), str(identity.gid), "-")


def _becoming(*who: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", _BECOME, *who]


def converse(
    command: Sequence[str],
    question: Mapping[str, Any],  # Any: JSON
    *,
    environment: Mapping[str, str],
    silence: float,
    told: Callable[[Mapping[str, Any]], None] = lambda _message: None,
    check: Callable[[], None] = lambda: None,
    directory: str | None = None,
    fds: Sequence[int] = (),
    as_user: bool = False,
    discreet: bool = False,
) -> Mapping[str, Any]:
    """Start *command* in *directory*, ask *question*; return its ``result``.

    *told* hears each message of progress; *check* is called ten times a second, and what it raises ends the program. *fds* keep their
    numbers. With *as_user* it runs as who called us, else as who we are. After *silence* seconds without a word it is killed. What it
    writes to standard error is told if it fails, unless it may hold secrets (*discreet*). Raises DialogueError; ImgError with what the
    program itself calls an error.
    """
    identity = userns.current() if as_user else None
    who = (str(identity.uid), str(identity.gid)) if identity is not None and identity.entered else ("-", "-")
    asked = os.memfd_create("question", os.MFD_CLOEXEC)
    try:
        os.write(asked, json.dumps(question).encode() + b"\n")
        os.lseek(asked, 0, os.SEEK_SET)
        process = subprocess.Popen(
            [*_becoming(*who, str(os.getpid())), *command], stdin=asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=dict(environment), cwd=directory, pass_fds=list(fds), process_group=0,
        )  # fmt: skip
    except OSError as err:
        raise DialogueError(f"cannot be started: {why(err)}") from err
    finally:
        os.close(asked)
    try:
        return _Dialogue(process, told, discreet=discreet).run(silence, check)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program and what it started; its id is not free for others before it is waited for."""
    for number in (process.pid, -process.pid):
        try:
            os.kill(number, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


class _Dialogue:
    """What one program says."""

    def __init__(
        self, process: subprocess.Popen[bytes], told: Callable[[Mapping[str, Any]], None], *, discreet: bool
    ) -> None:
        self._process = process
        self._told = told
        self._discreet = discreet
        self._line = bytearray()  # the one that is not complete
        self._size = 0
        self._errors = b""
        self._answer: Mapping[str, Any] | None = None

    def run(self, silence: float, check: Callable[[], None]) -> Mapping[str, Any]:
        """Listen until it ends. Raises DialogueError, ImgError."""
        status = self._listen(silence, check)
        if self._line:
            self._take(bytes(self._line))
        if self._answer is not None and "error" in self._answer:
            raise self._own_error(self._answer)
        if status != 0:
            raise DialogueError(f"{_ended(status)}{self._complaint()}")
        if self._answer is None:
            raise DialogueError(f"ended without a result{self._complaint()}")
        result: Mapping[str, Any] = self._answer["result"]
        return result

    def _listen(self, silence: float, check: Callable[[], None]) -> int:
        deadline = time.monotonic() + silence
        with selectors.DefaultSelector() as selector:
            for stream in filter(None, (self._process.stdout, self._process.stderr)):
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ)
            while True:
                check()
                ended = self._has_ended()
                ready = selector.select(0 if ended is not None else _TICK) if selector.get_map() else []
                for key, _events in ready:
                    if self._read(key.fileobj):  # type: ignore[arg-type]  # what was registered above
                        deadline = time.monotonic() + silence
                    else:
                        selector.unregister(key.fileobj)
                if (
                    ended is not None and not ready
                ):  # who still holds its output was started by it, and is not waited for
                    return ended
                if not ready and time.monotonic() > deadline:
                    raise DialogueError(f"says nothing for {silence:g} seconds{self._complaint()}")
                if not selector.get_map() and ended is None:
                    time.sleep(_TICK / 10)

    def _has_ended(self) -> int | None:
        """Return the status of the program if it has ended, negative for a signal; it is not waited for."""
        found = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def _read(self, stream: IO[bytes]) -> bool:
        data = os.read(stream.fileno(), 1 << 16)
        if stream is self._process.stderr:
            self._errors = (self._errors + data)[-_KEPT:]
            return bool(data)
        self._size += len(data)
        if self._size > _TOTAL:
            raise DialogueError(f"says more than {_TOTAL >> 20} MiB")
        *lines, rest = (bytes(self._line) + data).split(b"\n")
        for line in lines:
            self._take(line)
        if len(rest) > _LINE:
            raise DialogueError(f"says a line of more than {_LINE >> 20} MiB")
        self._line = bytearray(rest)
        return bool(data)

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        message = _message(line)
        if message is None or self._answer is not None:
            what = "something after its end" if self._answer is not None else "what is no message"
            raise DialogueError(f"says {what}: `{show(line[:60].decode('utf-8', 'replace'))}`")
        if "progress" in message:
            self._told(message)
        else:
            self._answer = message

    def _own_error(self, answer: Mapping[str, Any]) -> ImgError:
        text, hint = answer["error"], answer.get("hint")
        if not isinstance(text, str) or not text.strip():
            return DialogueError("says an error without a text")
        return ImgError(_one_line(text), hint=_one_line(hint) if isinstance(hint, str) and hint.strip() else None)

    def _complaint(self) -> str:
        if self._discreet:
            return ""
        lines = [line for line in self._errors.decode("utf-8", "replace").splitlines() if line.strip()]
        return f": {_one_line(lines[-1])}" if lines else ""


def _message(line: bytes) -> Mapping[str, Any] | None:  # Any: JSON
    """Return the message that *line* is, or None."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or len(found.keys() & {"progress", "result", "error"}) != 1:
        return None
    right = isinstance(found.get("progress", ""), str) and isinstance(found.get("result", {}), dict)
    return found if right else None


def _one_line(text: str) -> str:
    return show(" ".join(text.split()))[:500]


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = f" ({signal.Signals(-status).name})"
    except ValueError:
        name = ""
    return f"was ended by signal {-status}{name}"
