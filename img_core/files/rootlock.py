"""Whoever reads files of ``/`` where a builder puts those of an image in their place takes turns with it.

That is an image in which all of img is in `HOME`: an executor exchanges everything else in ``/`` while a step runs. The directory is
locked, which leaves no file behind and ends with the process: shared by every command as long as it runs and waits for nobody outside
(`given_up`), by other processes for each look (`sharing`), alone by who runs a step. A command that comes after a builder was killed
brings back first what that left in place (`locks.UNDO`), before it reads a setting.
"""

from __future__ import annotations

import fcntl
import os
import time
from _thread import RLock, get_ident  # `threading` is for who works in threads
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from img_core.files import locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["HOME", "NOTE", "PLACES", "alone", "given_up", "serving", "share", "sharing"]

HOME: Final = "/.img"
#: a link to the note (`locks.UNDO`) of who has put something in place
NOTE: Final = ".img-note"
#: where that link is: in the root directory, or in one below it where nobody may write in that
PLACES: Final = ("", "usr")
_PAUSE: Final = 0.05  # seconds
_WAITING: Final = f"waiting for a build: its step has the files of an image in `/`, see `{HOME}`"


@dataclass(frozen=True, slots=True)
class _Share:
    """The *directory*, open: this process shares it, and all that it forks."""

    directory: int
    home: str
    root: str
    notice: Callable[[str], None]
    for_good: bool

    def take(self) -> None:
        """Wait until no step has its files in the root, and bring back what is left there."""
        try:
            fcntl.flock(self.directory, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            self.notice(_WAITING)
            fcntl.flock(self.directory, fcntl.LOCK_SH)
        for place in PLACES:
            note = os.path.join(self.root, place, NOTE)
            if os.path.islink(note):
                _bring_back(os.path.realpath(note), self.home)

    def give(self) -> None:
        """Share no more; a child may have the descriptor, too."""
        fcntl.flock(self.directory, fcntl.LOCK_UN)


_held: list[_Share] = []
_one = RLock()  #: guards what is in there for a while only
_serving: set[int] = set()  #: threads


def share(notice: Callable[[str], None], *, home: str = HOME, root: str = "/") -> None:
    """Wait until no step has its files in *root*, and keep the next one waiting until this process ends; bring back what is left there.

    Does nothing where there is no *home*. *notice* is told if it has to wait.
    """
    _begin(notice, home, root, for_good=True)


def _begin(notice: Callable[[str], None], home: str, root: str, *, for_good: bool) -> bool:
    try:
        directory = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    taken = _Share(directory, home, root, notice, for_good)
    try:
        taken.take()
    except BaseException:
        os.close(directory)
        raise
    _held.append(taken)
    return True


@contextmanager
def sharing(notice: Callable[[str], None], *, home: str = HOME, root: str = "/") -> Iterator[None]:
    """Share like `share`, for the block only: for a process that lives on. Its threads come one after the other.

    Does nothing in a process that shares for good, and in a thread that is `serving` one that may have a step.
    """
    if (_held and _held[0].for_good) or get_ident() in _serving:
        yield
        return
    with _one:
        begun = not _held and _begin(notice, home, root, for_good=False)
        try:
            yield
        finally:
            if begun:
                ended = _held.pop()
                ended.give()
                os.close(ended.directory)


@contextmanager
def serving() -> Iterator[None]:
    """Let this thread wait for no step in the block, in which it does what another process asks for: that may be the one with the step."""
    _serving.add(get_ident())
    try:
        yield
    finally:
        _serving.discard(get_ident())


@contextmanager
def given_up() -> Iterator[None]:
    """Share nothing in the block, which waits for somebody outside and looks at nothing of the root; afterwards as before."""
    if not _held:
        yield
        return
    _held[-1].give()
    try:
        yield
    finally:
        _held[-1].take()


def _bring_back(note: str, home: str) -> None:
    # Who runs here may write below the home, so a note there says no more than it could do itself; elsewhere it would be an image's.
    if note.startswith(f"{home}/") and os.path.basename(note) == locks.UNDO:
        locks.undo(note)


@contextmanager
def alone(check: Callable[[], bool], *, home: str = HOME) -> Iterator[bool]:
    """Wait until nobody shares *home* but this process, and keep others waiting during the block.

    *check* is called while waiting: if it says so the wait ends, and False is given. Afterwards the process shares it as before.
    """
    shared = _held[-1] if _held else None
    directory = shared.directory if shared else os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_UN)  # or two who share it and want it alone would wait for each other
        yield _taken(directory, check)
    finally:
        if shared:
            fcntl.flock(directory, fcntl.LOCK_SH)
        else:
            fcntl.flock(directory, fcntl.LOCK_UN)  # a child may have the descriptor, too
            os.close(directory)


def _taken(directory: int, check: Callable[[], bool]) -> bool:
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if check():
                return False
            time.sleep(_PAUSE)
        else:
            return True
