"""A directory of the user that appears whole or not at all, perhaps in place of another one of which nothing is lost."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.files.output import destination_errors
from img_core.spec.errors import ImgError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.files.treewalk import Entry

__all__ = ["appearing"]

#: a directory with this attribute was made here, so its content can be had again; it gets into no layer
_MARK = "user.img.unpacked"


@contextmanager
def appearing(directory: str, *, state: str, force: bool = False) -> Iterator[int]:
    """Give a descriptor of a new directory that becomes *directory* when the block succeeds, and vanishes when it fails.

    With *force* an existing one is replaced: one that was made so, too, or that has nothing which the new one has not; never one that is
    mounted, or that *state*, a home or the working directory is in. Raises UsageError, and ImgError for the disk.
    """
    final = os.path.abspath(directory)
    if os.path.lexists(final):
        if not force:
            raise ImgError(
                f"destination directory already exists: {fs.show(directory)}", hint="remove it, or use `--force`"
            )
        _check_replaceable(directory, state)
    with _staged(final) as stage_fd:
        with fs.disk_errors(final):
            yield stage_fd
        _mark(stage_fd)
        _check_nothing_is_lost(directory, stage_fd)


def _check_replaceable(directory: str, state: str) -> None:
    """Raise UsageError for an existing *directory* that is not replaced whatever is in there."""
    from img_core.files.vital import check_not_mounted, check_not_vital

    if os.path.islink(directory) or not os.path.isdir(directory):
        raise UsageError(f"`{fs.show(directory)}` is not a directory", hint="remove it, or choose another place")
    check_not_vital(directory, state, os.environ)
    check_not_mounted(directory)


def _check_nothing_is_lost(directory: str, stage_fd: int) -> None:
    """Raise UsageError if *directory* was not made by us and has something that the new tree has not."""
    from img_core.files.treewalk import walk

    try:
        old_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if _is_marked(old_fd):
            return
        for entry in walk(old_fd):
            if not _has_alike(stage_fd, entry):
                raise UsageError(
                    f"`{fs.show(directory)}` is not replaced: img did not unpack it, and `{fs.show(entry.path)}` would be lost",
                    hint="remove it, or choose another directory",
                )
    finally:
        os.close(old_fd)


def _mark(fd: int) -> None:
    import xattr

    with suppress(OSError):  # a file system without attributes: next time the content has to tell
        xattr.setxattr(fd, _MARK, b"1")


def _is_marked(fd: int) -> bool:
    import xattr

    try:
        return bool(xattr.getxattr(fd, _MARK))
    except OSError:
        return False


def _has_alike(root_fd: int, entry: Entry) -> bool:
    """Tell whether the tree has an entry of that path, a directory for a directory and something else for something else."""
    try:
        fd = fs.open_beneath(root_fd, entry.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return stat.S_ISDIR(os.fstat(fd).st_mode) == stat.S_ISDIR(entry.info.st_mode)
    finally:
        os.close(fd)


@contextmanager
def _staged(final: str) -> Iterator[int]:
    """Give a descriptor of a new directory that becomes *final* when the block succeeds, and vanishes when it fails."""
    parent = os.path.dirname(final)
    with destination_errors(final):
        os.makedirs(parent, exist_ok=True)
    stage = os.path.join(parent, f".{os.path.basename(final)}.{secrets.token_hex(6)}")
    try:
        with destination_errors(final):
            fs.mkdir(stage, 0o755)  # in here: a signal may come when it is made
        with fs.opened_directory(stage) as descriptor:
            yield descriptor
        if os.path.lexists(final):
            aside = f"{stage}.old"
            fs.rename(final, aside)
            fs.rename(stage, final)
            fs.remove_tree(aside)
        else:
            fs.rename(stage, final)
    except BaseException:
        with suppress(OSError):
            fs.remove_tree(stage)
        raise
