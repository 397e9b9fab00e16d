"""Writing for people and programs: stdout is data, stderr is talk, and a lost line is an error only on stdout."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager

from img_core.linux import stdout
from img_core.spec.errors import ImgError

TYPE_CHECKING = False  # see `img_core.linux.stdout`
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "OutputClosed",
    "echo",
    "flush",
    "open_standard_descriptors",
    "reader_is_gone",
    "say",
    "say_line",
    "saying_by",
    "warn",
]


class OutputClosed(BaseException):
    """The reader of our standard output went away: stop quietly, e.g. in ``img ls | head -1``.

    Not an `Exception`, so that no handler on the way mistakes it for a failure of its own.
    """


def open_standard_descriptors() -> None:
    """Occupy the descriptors 0, 1 and 2 if the caller closed them.

    Otherwise the next file we open gets such a number, and what was meant for standard output destroys it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # Read-only: writing to a closed standard output fails, as it should. open(2) takes the lowest free number.
            os.open(os.devnull, os.O_RDONLY if descriptor != 2 else os.O_WRONLY)


def echo(text: str, *, end: str = "\n") -> None:
    """Write *text* to standard output. Raises ImgError if it cannot be written, OutputClosed if nobody reads it."""
    out = stdout.stream()
    if out is None:
        raise ImgError("standard output is closed")
    try:
        out.write(text + end)
    except OSError as err:
        raise _translated(err) from err
    except UnicodeEncodeError:
        flush()
        out.buffer.write((text + end).encode("utf-8", "surrogateescape"))


def flush() -> None:
    """Write what standard output still holds back; errors as `echo`."""
    out = stdout.stream()
    if out is None:
        return
    try:
        out.flush()
    except OSError as err:
        raise _translated(err) from err


def reader_is_gone() -> bool:
    """Tell whether standard output is a pipe that nobody reads any more."""
    import select

    poll = select.poll()
    poll.register(stdout.descriptor(), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def say(text: str) -> None:
    """Write a line for people to standard error. A closed or full one is not our business."""
    if sys.stderr is None:
        return
    write = _writers[-1] if _writers else _write
    try:
        write(text)
    except UnicodeEncodeError:
        write(text.encode("ascii", "backslashreplace").decode("ascii"))
    except (OSError, ValueError):
        pass


def say_line(prefix: str, text: str) -> None:
    """Say *text*, which may quote what strangers wrote, after *prefix* in one line of bounded length."""
    from img_core.spec.text import LINE_LIMIT, one_line

    say(prefix + one_line(text, limit=LINE_LIMIT - len(prefix)))


def warn(text: str) -> None:
    """Say *text* as a warning."""
    say_line("warning: ", text)


@contextmanager
def saying_by(write: Callable[[str], None]) -> Iterator[None]:
    """Within the block, what is said goes through *write*: whoever draws on the terminal must know of every line on it."""
    _writers.append(write)
    try:
        yield
    finally:
        _writers.remove(write)


_writers: list[Callable[[str], None]] = []


def _write(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _translated(err: OSError) -> BaseException:
    _discard()
    if err.errno == errno.EPIPE:
        return OutputClosed()
    from img_core.spec.text import why

    return ImgError(f"cannot write to standard output: {why(err)}")


def _discard() -> None:
    """Let what is left in the buffer go nowhere: Python would complain about it once more at exit."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, stdout.descriptor())
    os.close(null)
