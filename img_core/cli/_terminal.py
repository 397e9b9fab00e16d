"""A program in a container on the terminal of the user: it gets a terminal of its own, and this passes on what is typed and shown.

The user's own terminal never reaches the container: who has it open could type on it (ioctl_tty(2), TIOCSTI), which the shell outside
would execute.
"""

from __future__ import annotations

import os
import select
import termios
import threading
import tty
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from img_core.linux import stdout
from img_core.spec.errors import HostError
from img_core.spec.executor import StepIO
from img_core.spec.text import why

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from img_core.api import StepFailure

__all__ = ["enter", "find"]

_CHUNK = 64 * 1024
_LOOK = 250  #: milliseconds between two looks at the size of the window; signals only reach the main thread


def find(*, otherwise: bool = False) -> int | None:
    """Return the descriptor of standard output if people sit at both ends of this command; None if programs do.

    With *otherwise* standard error will do as well, where standard output is for something else.
    """
    candidates = (stdout.descriptor(), 2) if otherwise else (stdout.descriptor(),)
    return next((number for number in candidates if os.isatty(number)), None) if os.isatty(0) else None


def enter(failure: StepFailure, args: Sequence[str], terminal: int | None) -> int:
    """Run *args* in what a step left, on the *terminal* (see `find`) or with pipes; return the exit status."""
    if terminal is None:
        return _piped(failure, args)
    with _relayed(terminal) as ours:
        return failure.enter(args, StepIO(ours, ours, -1, ours, terminal=True))


# --------------------------------------------------------------------------------------------------------- on a terminal


@contextmanager
def _relayed(shown: int) -> Iterator[int]:
    """Give a terminal for the block. What is typed on ours goes there key by key; afterwards ours is as it was."""
    before = termios.tcgetattr(0)
    try:
        master, slave = os.openpty()
    except OSError as err:
        raise HostError(f"there is no terminal for the program: {why(err)}") from err
    with ExitStack() as opened:
        os.set_blocking(master, False)
        _copy_size(master)
        opened.callback(_restore, before)
        tty.setraw(0)
        pump = threading.Thread(target=_pump, args=(master, shown), name="terminal", daemon=True)
        pump.start()
        opened.callback(pump.join)
        opened.callback(os.close, slave)  # the last one, so the pump ends once it has passed on what is left
        yield slave


def _restore(settings: list[Any]) -> None:  # Any: as the module termios has them
    with suppress(OSError, termios.error):  # it may be gone
        termios.tcsetattr(0, termios.TCSADRAIN, settings)


def _pump(master: int, shown: int) -> None:
    """Pass on what is typed, and what is shown, until nobody has the other end of *master*; if ours is gone, take that away, too."""
    try:
        _pass_on(master, shown)
    finally:
        os.close(master)


def _pass_on(master: int, shown: int) -> None:
    typed = b""
    while True:
        poll = select.poll()
        poll.register(master, select.POLLIN | (select.POLLOUT if typed else 0))
        if not typed:
            poll.register(0, select.POLLIN)
        ready = dict(poll.poll(_LOOK))
        _copy_size(master)
        if master in ready:
            if ready[master] & (select.POLLIN | select.POLLHUP) and not _show(master, shown):
                return
            if typed and ready[master] & select.POLLOUT:
                with suppress(BlockingIOError):
                    typed = typed[os.write(master, typed) :]
        if 0 in ready and not (typed := _typed()):
            return


def _show(master: int, shown: int) -> bool:
    """Show what came; return false at the end."""
    try:
        data = os.read(master, _CHUNK)
    except BlockingIOError:
        return True
    except OSError:  # EIO: nobody has the other end
        return False
    while data:
        try:
            data = data[os.write(shown, data) :]
        except BlockingIOError:
            select.select([], [shown], [])
        except OSError:  # our terminal is gone; the program goes on until it is told, too
            return True
    return True


def _typed() -> bytes:
    try:
        return os.read(0, _CHUNK)
    except OSError:
        return b""


def _copy_size(master: int) -> None:
    with suppress(OSError, termios.error):
        size = termios.tcgetwinsize(0)
        if termios.tcgetwinsize(master) != size:
            termios.tcsetwinsize(master, size)


# -------------------------------------------------------------------------------------------------------- without a terminal


def _piped(failure: StepFailure, args: Sequence[str]) -> int:
    """Run *args* with pipes: whatever standard output is, the container gets no hold on it."""
    stdin = -1 if os.isatty(0) else 0
    with ExitStack() as opened:
        ends = []
        for target in (stdout.descriptor(), 2):
            reader, writer = os.pipe()
            pump = threading.Thread(target=_copy, args=(reader, target), name="output", daemon=True)
            pump.start()
            opened.callback(pump.join)
            opened.callback(os.close, writer)
            ends.append(writer)
        return failure.enter(args, StepIO(ends[0], ends[1], -1, stdin))


def _copy(reader: int, target: int) -> None:
    with open(reader, "rb", buffering=0) as source:
        while data := source.read(_CHUNK):
            while data and target >= 0:
                try:
                    data = data[os.write(target, data) :]
                except OSError:  # whoever reads it has enough; the program is not stopped by that
                    target = -1
