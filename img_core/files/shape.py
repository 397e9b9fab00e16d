"""What is a directory in the state directory, and what a file: no command has to find out half way."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.spec.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["check_shape"]


def check_shape(state: str, directories: Iterable[str], is_file: Callable[[str], bool]) -> None:
    """Raise StateError for one of *directories* in *state* that is something else or leads nowhere, or a file of its that is none.

    *is_file* tells by its name whether something in *state* has to be a file. What is missing is fine. A link to the right thing is, too:
    it may lie on another disk.
    """
    for name in directories:
        path = os.path.join(state, name)
        mode = _mode(path)
        if not (stat.S_ISDIR(mode) if mode else not os.path.islink(path)):
            raise _wrong(path, "a directory")
    try:
        names = os.listdir(state)
    except OSError:  # not there yet, or a matter of `check_trusted`
        return
    for name in names:
        if is_file(name):
            path = os.path.join(state, name)
            mode = _mode(path)
            if mode and not stat.S_ISREG(mode):  # whoever opened a pipe would wait for ever
                raise _wrong(path, "a file")


def _mode(path: str) -> int:
    """Return the mode of what *path* leads to; 0 if there is nothing, or nobody may look."""
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0


def _wrong(path: str, kind: str) -> StateError:
    shown = fs.show(path)
    return StateError(
        f"`{shown}` is not {kind}",
        hint="img did not make it: move it away, then `img fsck --repair` finds what is left",
    )
