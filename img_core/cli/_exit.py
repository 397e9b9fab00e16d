"""From whatever ended a command to what people see and the exit status.

====================  ======================================================================================
0                     ok
1 to 7                `ImgError.exit_code`: see `img_core.spec.errors`
125                   a bug of ours; the report file has the traceback
130, 143, 129         stopped by Ctrl-C, SIGTERM, SIGHUP
141                   the reader of standard output went away
====================  ======================================================================================
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

from img_core.cli._output import OutputClosed, flush, open_standard_descriptors, reader_is_gone, say, say_line
from img_core.linux import stdout
from img_core.linux.stopping import Stopped, signal_in, stop_where_dropped
from img_core.spec.errors import Canceled, ImgError

TYPE_CHECKING = False  # see `img_core.linux.stdout`
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

__all__ = ["BUG_EXIT_CODE", "enable_debug", "guarded", "is_debug", "show_error", "signals_to"]

BUG_EXIT_CODE = 125
_PIPE_EXIT_CODE = 128 + signal.SIGPIPE
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 3  # from this signal on we leave without cleaning up; the next command collects the rest


class _State:
    """What belongs to the process, not to a call: signal handlers have no other place to look.

    Not a dataclass: importing `dataclasses` is a third of the time of ``img --version``.
    """

    def __init__(self) -> None:
        self.debug = False
        self.signals = 0
        self.cancel: Callable[[int], None] | None = None


_state = _State()


def enable_debug() -> None:
    """Show tracebacks from now on."""
    _state.debug = True


def is_debug() -> bool:
    """Tell whether ``--debug`` was given."""
    return _state.debug


def guarded(command: Callable[[], None]) -> int:
    """Run *command*; show what went wrong and return the exit status."""
    open_standard_descriptors()
    stop_where_dropped(_cancel_or_raise)
    for signum in _STOP_SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup(1) asked to ignore SIGHUP
            signal.signal(signum, _stop)
    try:
        try:
            command()
        finally:
            flush()
            stdout.release()
    except OutputClosed:
        return _PIPE_EXIT_CODE
    except BaseException as err:
        return _told(err)
    return 0


def _told(err: BaseException) -> int:
    """Show *err*, which ended the command, and return the exit status."""
    if signum := signal_in(err):
        say("Error: canceled" if signum == signal.SIGINT else f"Error: stopped by {signal.Signals(signum).name}")
        return 128 + signum
    if isinstance(err, ImgError):
        if err.exit_code != _PIPE_EXIT_CODE:  # `img save x | head -c1` ends quietly
            show_error(err)
        return err.exit_code
    if isinstance(err, SystemExit):
        return err.code if isinstance(err.code, int) else int(err.code is not None)
    if isinstance(err, BrokenPipeError) and reader_is_gone():  # raised by who writes an archive to standard output
        return _PIPE_EXIT_CODE
    if (told := _disk_error(err) or _exhaustion(err) or _failure_of_a_plugin(err)) is not None:
        show_error(told)
        return told.exit_code
    _report_bug(err)
    return BUG_EXIT_CODE


@contextmanager
def signals_to(cancel: Callable[[int], None]) -> Iterator[None]:
    """Within the block, the first stop signal calls *cancel* with its number instead of raising `Stopped` wherever we are."""
    _state.cancel = cancel
    try:
        yield
    finally:
        _state.cancel = None


def show_error(err: ImgError) -> None:
    """Write the excerpt (if any), the error line and the hint to standard error; with ``--debug`` the traceback, too."""
    from img_core.spec.text import redacted

    if is_debug():
        _show_traceback(err)
    excerpt = getattr(err, "excerpt", None)
    if excerpt and not isinstance(err, Canceled):  # nothing is wrong with the line that was interrupted
        say(redacted(excerpt.rstrip("\n")))
    say_line("Error: ", err.message)
    if err.hint:
        say_line("hint: ", err.hint)
    epilogue = getattr(err, "epilogue", None)
    if epilogue:
        say(epilogue)


def _show_traceback(err: BaseException) -> None:
    import traceback

    from img_core.spec.text import show

    lines = "".join(traceback.format_exception(err)).splitlines()
    say("\n".join(show(line, limit=10_000) for line in lines))  # messages quote what strangers wrote


def _stop(signum: int, _frame: FrameType | None) -> None:
    _state.signals += 1
    if _state.signals == 1:
        _cancel_or_raise(signum)
    if _state.signals >= _PATIENCE:  # the second one might hit us while we clean up after the first
        os._exit(128 + signum)


def _cancel_or_raise(signum: int) -> None:
    if _state.cancel is None:
        raise Stopped(signum)
    _state.cancel(signum)


def _disk_error(err: BaseException) -> ImgError | None:
    """Return *err* in words if it is a full or failing disk: never a bug of ours, wherever it was met."""
    from img_core.files import fs

    if not isinstance(err, OSError) or err.errno not in fs.DISK_ERRORS:
        return None
    return fs.disk_error(err, fs.place_of(err, "the state directory or the destination"))


def _exhaustion(err: BaseException) -> ImgError | None:
    from img_core.linux.exhausted import exhaustion

    return exhaustion(err)


def _failure_of_a_plugin(err: BaseException) -> ImgError | None:
    """Return *err* in words if code of somebody else raised it, with a hint where the whole story is."""
    import traceback

    from img_core.plugins import blamed

    told = blamed(err)
    if told is not None and (path := _keep_report("".join(traceback.format_exception(err)))):
        told.hint = f"{told.hint}, with the file {path}"
    return told


def _report_bug(err: BaseException) -> None:
    """Say that it is our fault, in one line, and keep the traceback where it can be attached to a report."""
    import traceback

    from img_core.spec.text import redacted

    text = redacted("".join(traceback.format_exception(err)))
    if is_debug():
        _show_traceback(err)
    say_line("Error: internal error: ", f"{type(err).__name__}: {err}")
    path = _keep_report(text)
    if path:
        say(f"hint: please report this bug with the file {path}")


def _keep_report(text: str) -> str:
    """Write *text* to a new file that only the user can read; return its path, empty if there is no place for it."""
    import platform
    import tempfile

    from img_core import __version__

    # No command line in here: build arguments and secrets must not end in a bug report.
    head = f"img {__version__}, Python {platform.python_version()}, {platform.platform()}\n\n"
    try:
        descriptor, path = tempfile.mkstemp(prefix="img-report-", suffix=".txt")
        with os.fdopen(descriptor, "w", errors="backslashreplace") as file:
            file.write(head + text)
    except OSError:
        return ""
    return path
