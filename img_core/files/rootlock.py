"""Whoever reads files of ``/`` where a builder puts those of an image in their place takes turns with it.

That is an image in which all of img is in `HOME`: an executor exchanges everything else in ``/`` while a step runs. The directory is
locked, which leaves no file behind and ends with the process: shared by every command as long as it runs, alone by who runs a step. A
command that comes after a builder was killed brings back first what that left in place (`locks.UNDO`), before it reads a setting.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from img_core.files import locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["HOME", "NOTE", "PLACES", "alone", "share"]

HOME: Final = "/.img"
#: a link to the note (`locks.UNDO`) of who has put something in place
NOTE: Final = ".img-note"
#: where that link is: in the root directory, or in one below it where nobody may write in that
PLACES: Final = ("", "usr")
_PAUSE: Final = 0.05  # seconds
_WAITING: Final = f"waiting for a build: its step has the files of an image in `/`, see `{HOME}`"

_held: list[int] = []  #: the descriptor by which this process, and all that it forks, shares the directory


def share(notice: Callable[[str], None], *, home: str = HOME, root: str = "/") -> None:
    """Wait until no step has its files in *root*, and keep the next one waiting until this process ends; bring back what is left there.

    Does nothing where there is no *home*. *notice* is told if it has to wait.
    """
    try:
        directory = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(directory, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        notice(_WAITING)
        fcntl.flock(directory, fcntl.LOCK_SH)
    _held.append(directory)
    for place in PLACES:
        note = os.path.join(root, place, NOTE)
        if os.path.islink(note):
            _bring_back(os.path.realpath(note), home)


def _bring_back(note: str, home: str) -> None:
    # Who runs here may write below the home, so a note there says no more than it could do itself; elsewhere it would be an image's.
    if note.startswith(f"{home}/") and os.path.basename(note) == locks.UNDO:
        locks.undo(note)


@contextmanager
def alone(check: Callable[[], bool], *, home: str = HOME) -> Iterator[bool]:
    """Wait until nobody shares *home* but this process, and keep others waiting during the block.

    *check* is called while waiting: if it says so the wait ends, and False is given. Afterwards the process shares it as before.
    """
    shared = bool(_held)
    directory = _held[-1] if shared else os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
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
