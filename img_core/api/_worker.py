"""Runs a build in a process of its own, for callers that have threads or want to stay in their namespace.

The worker is a fresh interpreter. It gets the request on stdin and answers on stdout, both as pickles with a length before each: both ends
are this very module, run by the same interpreter as the same user, so nothing untrusted is ever unpickled.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, NoReturn

from img_core.linux import stdout
from img_core.spec.errors import ImgError

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.api._request import BuildRequest, BuildResult
    from img_core.spec.progress import Event

__all__ = ["run_in_worker"]

_PROGRAM = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from img_core.api._worker import main; main()"
_LENGTH = struct.Struct(">Q")


def run_in_worker(request: BuildRequest, state: str | None, on_event: Callable[[Event], None] | None) -> BuildResult:
    """Run *request* in a worker and hand its events to *on_event*. Raises what the build raised."""
    # Our path, not that of the environment, which is left as it is for the programs that the worker starts.
    places = json.dumps([os.path.abspath(path) for path in sys.path])
    command = [sys.executable, "-I", "-c", _PROGRAM, places]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            _send(worker.stdin, (request, state))
            while (message := _receive(worker.stdout)) is not None:
                kind, value = message
                if kind == "event" and on_event is not None:
                    on_event(value)
                elif kind == "result":
                    answer: BuildResult = value
                    return answer
                elif kind == "error":
                    raise value
        except BaseException:
            worker.terminate()
            raise
    raise ImgError(f"the build process ended with status {worker.returncode} and without an answer")


def main() -> NoReturn:
    """Be the worker. What a plugin leaves running does not hold the caller."""
    status = 1
    try:
        _serve()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(OSError):
            sys.stderr.flush()
        os._exit(status)


class _Answers:
    """Sends answers to the caller, until that is gone: then nobody wants to hear anything."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(1), "wb", buffering=0)
        self._is_gone = False
        os.dup2(2, 1)  # whatever prints must not disturb the answers
        stdout.deny()

    def send(self, kind: str, value: Any) -> None:  # Any: what pickle can carry
        """Send *value*."""
        if not self._is_gone:
            try:
                _send(self._stream, (kind, value))
            except BrokenPipeError:
                self._is_gone = True

    def note(self, text: str) -> None:
        """Tell people *text*."""
        if not self._is_gone:
            print(text, file=sys.stderr)  # noqa: T201


def _serve() -> None:
    answers = _Answers()
    message = _receive(sys.stdin.buffer)
    if message is None:
        return
    request, state = message
    try:
        result = _run(request, state, answers)
    except ImgError as err:
        answers.send("error", err)
        return
    except Exception as err:
        from img_core.linux.exhausted import exhaustion
        from img_core.plugins import blamed

        if (failure := exhaustion(err) or blamed(err)) is None:
            raise
        answers.send("error", failure)
        return
    answers.send("result", result)


def _run(request: BuildRequest, state: str | None, answers: _Answers) -> BuildResult:
    import signal

    from img_core.api._build import Build
    from img_core.api.session import Session
    from img_core.config import Config
    from img_core.solver.cancellation import Cancellation

    cancellation = Cancellation()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda number, _frame: cancellation.cancel(number))
    with Session(Config.load(state=state), namespace=True, notice=answers.note) as session:
        return Build(session, request, cancellation, [lambda event: answers.send("event", event)]).run()


def _send(stream: IO[bytes], message: Any) -> None:  # Any: what pickle can carry
    data = pickle.dumps(message)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:  # Any: what pickle can carry
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(header)
    return pickle.loads(stream.read(length))  # noqa: S301  # from our own child, see above
