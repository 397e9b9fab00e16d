"""Places that take no files, such as /proc, somebody else's directory or a path through a file: one line that says why."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.spec.text import why

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from img_core.spec.errors import ImgError

__all__ = ["refusals", "why_refused"]


def why_refused(err: OSError, path: str) -> str:
    """Return why nothing can be made at *path*. The kernel's words mislead of /proc, where what is to be made is "not found", and of
    directories that cannot be made because a file has their name."""
    place = os.path.abspath(os.fsdecode(fs.place_of(err, path)))
    parent = os.path.dirname(place)
    if err.errno == errno.ENOENT and os.path.isdir(parent):
        return f"no files can be made in `{fs.show(parent)}`"
    if err.errno == errno.EEXIST and not os.path.isdir(place):
        return f"`{fs.show(place)}` is not a directory"
    return why(err)


@contextmanager
def refusals(path: str, told: Callable[[str], ImgError], *, passing: tuple[type[OSError], ...] = ()) -> Iterator[None]:
    """Within the block, turn the system's refusal to make or write *path* into what *told* makes of the reason, but for errors *passing*.

    A full, read-only or failing disk is told as `fs.disk_errors` does.
    """
    try:
        with fs.disk_errors(path):
            yield
    except OSError as err:
        if isinstance(err, passing):
            raise
        raise told(why_refused(err, path)) from err
