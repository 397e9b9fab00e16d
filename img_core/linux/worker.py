"""Runs a call in a process of its own, for callers that have threads or want to stay in their namespace.

The worker is a fresh interpreter. It gets the call on stdin and answers on stdout, both as pickles with a length before each: both ends
are this very module, run by the same interpreter as the same user, so nothing untrusted is ever unpickled. Functions among the arguments
stay with the caller: the worker tells them, or asks them and waits.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, NoReturn

from img_core.linux import stdout
from img_core.linux.cancellation import CancelHandle
from img_core.linux.stopping import Stopped, signal_in, stop_where_dropped
from img_core.spec.errors import Canceled, ImgError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

__all__ = ["WorkerCall", "bound", "run_in_worker"]

#: Until the worker handles Ctrl-C itself, it dies by it without a word.
_PROGRAM = (
    "import _signal; _signal.signal(_signal.SIGINT, _signal.SIG_DFL); "
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from img_core.linux.worker import main; main()"
)
_LENGTH = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class WorkerCall:
    """The function *entry* (``module:name``) and its *arguments*; *told* and *asked* name functions of the caller.

    It is called as ``name(arguments, functions, handle)``; what listens to the `CancelHandle` stops by itself, anything else is
    interrupted by a signal wherever it is. *environment* is that of the process, None for ours.
    """

    entry: str
    arguments: Any  # Any: plain data
    told: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None


def bound(
    method: Callable[..., Any], owner: object, arguments: tuple[Any, ...], named: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Callable[[Any], Any]], CancelHandle]:  # Any: depends on the method
    """Return the arguments of a call of *method* of *owner* by name, in a form that another process understands: the plain ones, the
    functions, and its ``cancel``. Raises UsageError for an open file, TypeError for what the method does not take."""
    from inspect import signature

    given = dict(signature(method).bind(owner, *arguments, **named).arguments)
    del given["self"]
    cancel = given.pop("cancel", None) or CancelHandle()
    functions = {name: value for name, value in given.items() if callable(value)}
    plain = {name: _plain(method, name, value) for name, value in given.items() if name not in functions}
    return plain, functions, cancel


def _plain(method: Callable[..., Any], name: str, value: Any) -> Any:  # Any: an argument
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "read"):
        raise UsageError(f"`{name}` of {method.__name__}() must be a path, not {type(value).__name__}")
    return tuple(value) if isinstance(value, Iterator) else value


def run_in_worker(call: WorkerCall, functions: Mapping[str, Callable[[Any], Any]], cancel: CancelHandle) -> Any:
    """Do *call* in a worker and return its result. Raises what it raised, and what one of *functions* raises; nothing goes on then."""
    # Our path, not that of the environment, which is left as it is for the programs that the worker starts.
    places = json.dumps([os.path.abspath(path) for path in sys.path])
    command = [sys.executable, "-I", "-c", _PROGRAM, places]
    cancel.check()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=call.environment) as worker:
        try:
            with cancel.stopping(lambda _signum: worker.terminate()):
                kind, value = _converse(worker, call, functions)
        except BaseException:
            worker.terminate()
            raise
        finally:
            _hang_up(worker)
    if kind == "result":
        return value
    if isinstance(value, Canceled):
        cancel.check()  # which knows the signal
    raise value


def _converse(
    worker: subprocess.Popen[bytes], call: WorkerCall, functions: Mapping[str, Callable[[Any], Any]]
) -> tuple[str, Any]:  # Any: a result or an error
    """Return how it ended: ``result`` or ``error``, and that."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    with suppress(BrokenPipeError):  # it was stopped already
        _send(worker.stdin, call)
    while (message := _receive(worker.stdout)) is not None:
        kind, name, value = message
        if kind in ("result", "error"):
            return kind, value
        answer = functions[name](value)
        if kind == "ask":
            _send(worker.stdin, answer)
    return "error", _silence(worker.wait())


def _silence(status: int) -> ImgError:
    """Return what it means that a worker ended with *status* and without an answer."""
    if status < 0 and -status in _stop_signals():  # it was about to start
        return Canceled(signum=-status)
    return ImgError(f"the process that did the work ended with status {status} and without an answer")


def _hang_up(worker: subprocess.Popen[bytes]) -> None:
    """Close both pipes, so that a worker that still writes or reads ends."""
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _stop_signals() -> tuple[int, ...]:
    import signal

    return (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


# -------------------------------------------------------------------------------------------------------- the worker


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


class _Caller:
    """The other end: hears what is sent until it is gone; then nobody wants to hear anything."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(1), "wb", buffering=0)
        self._sending_lock = threading.Lock()
        self._is_gone = False
        os.dup2(2, 1)  # whatever prints must not disturb the answers
        stdout.deny()

    def send(self, kind: str, name: str, value: Any) -> None:  # Any: what pickle can carry
        """Send *value*."""
        with self._sending_lock:
            if not self._is_gone:
                try:
                    _send(self._stream, (kind, name, value))
                except BrokenPipeError:
                    self._is_gone = True

    def ask(self, name: str, value: Any) -> Any:  # Any: what pickle can carry
        """Return what the function *name* of the caller says to *value*. Raises Canceled if the caller is gone."""
        self.send("ask", name, value)
        if (answer := _receive(sys.stdin.buffer)) is None:
            raise Canceled
        return answer

    def functions(self, call: WorkerCall) -> dict[str, Callable[[Any], Any]]:
        """Return what stands here for the functions of the caller."""
        from functools import partial

        told = {name: partial(self.send, "tell", name) for name in call.told}
        return {**told, **{name: partial(self.ask, name) for name in call.asked}}


def _serve() -> None:
    caller = _Caller()
    call = _receive(sys.stdin.buffer)
    if call is None:
        return
    kind, value = _outcome(call, caller)
    _stop_no_more()
    caller.send(kind, "", value)


def _outcome(call: WorkerCall, caller: _Caller) -> tuple[str, Any]:  # Any: what pickle can carry
    try:
        return "result", _run(call, caller)
    except BaseException as err:
        if signum := signal_in(err):
            return "error", Canceled(signum=signum)
        if isinstance(err, ImgError):
            return "error", err
        raise


def _run(call: WorkerCall, caller: _Caller) -> Any:  # Any: what pickle can carry
    from importlib import import_module

    handle = CancelHandle()
    _stop_by_signal(handle)
    module, _, name = call.entry.partition(":")
    return getattr(import_module(module), name)(call.arguments, caller.functions(call), handle)


def _stop_by_signal(handle: CancelHandle) -> None:
    """Let the first signal stop what listens to *handle*, or raise `Stopped` where we are if nothing does."""
    import signal

    def stop(signum: int, _frame: FrameType | None) -> None:
        is_first = not handle.canceled
        handle.cancel(signum)
        if is_first:
            stop_here(signum)

    def stop_here(signum: int) -> None:
        if not handle.is_heard:
            raise Stopped(signum)

    stop_where_dropped(stop_here)
    for signum in _stop_signals():
        signal.signal(signum, stop)


def _stop_no_more() -> None:
    """Ignore signals from now on: the work is done, and the caller learns how it ended."""
    import signal

    for signum in _stop_signals():
        signal.signal(signum, signal.SIG_IGN)


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
