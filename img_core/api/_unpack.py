"""The root file system of a kept image as a directory of the user's own."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from img_core.api._images import get_image
from img_core.api._values import Unpacked
from img_core.files import fs
from img_core.spec.errors import ArchiveError, ImgError, NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.archives.tar import Directories, OwnerPolicy, Stats
    from img_core.files.treewalk import Entry
    from img_core.spec.values import Descriptor, DiffId, Platform
    from img_core.store import Store

__all__ = ["unpack"]

#: a directory with this attribute was unpacked by us, so its content can be had again; it gets into no layer
_MARK = "user.img.unpacked"
_REMEMBERED = 100  # how many left-out entries are named


def unpack(
    store: Store,
    name: str,
    directory: str,
    *,
    owners: bool = False,
    platform: Platform | None = None,
    force: bool = False,
) -> Unpacked:
    """Write the root file system of the image *name* into the new *directory*; with *force* it replaces an existing one.

    The layers are unpacked one over the other, straight from their blobs. With *owners* files get their owners, which takes
    real root; else all belong to the caller, without set-id bits and with ``user.`` attributes only. Devices are left out.
    What *force* replaces is a directory that this function made, or one that has nothing which the new tree has not.
    Leaves the whole tree or nothing. Raises UsageError, NotFoundError, ArchiveError, IntegrityError, and ImgError for the disk.
    """
    from img_core.archives.tar import OwnerPolicy, finish_directories

    final = os.path.abspath(directory)
    if os.path.lexists(final):
        if not force:
            raise ImgError(
                f"destination directory already exists: {fs.show(directory)}", hint="remove it, or use `--force`"
            )
        _check_replaceable(directory, store.state)
    image = get_image(store, name)
    content = store.images.content(image.descriptor, platform, name)
    policy = OwnerPolicy("set" if owners else "caller", devices=False)
    unpacked = Unpacked()
    directories: Directories = {}
    with _staged(final) as stage_fd:
        for layer, diff_id in zip(content.layers, content.diff_ids, strict=True):
            stats = _apply(store, layer, diff_id, stage_fd, policy, directories)
            skipped = (*unpacked.skipped, *stats.skipped)[:_REMEMBERED]
            unpacked = Unpacked(skipped, unpacked.skipped_count + stats.skipped_count)
        _mark_as_unpacked(stage_fd)
        with fs.disk_errors(final):
            finish_directories(stage_fd, directories)
        _check_nothing_is_lost(directory, stage_fd)
    return unpacked


def _check_replaceable(directory: str, state: str) -> None:
    """Raise UsageError for an existing *directory* that is not replaced whatever is in there."""
    from img_core.files.vital import check_not_mounted, check_not_vital

    if os.path.islink(directory) or not os.path.isdir(directory):
        raise UsageError(f"`{fs.show(directory)}` is not a directory", hint="remove it, or choose another place")
    check_not_vital(directory, state, os.environ)
    check_not_mounted(directory)


def _check_nothing_is_lost(directory: str, stage_fd: int) -> None:
    """Raise UsageError if *directory* was not unpacked by us and has something that the new tree has not."""
    from img_core.files.treewalk import walk

    try:
        old_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if _was_unpacked(old_fd):
            return
        for entry in walk(old_fd):
            if not _has_alike(stage_fd, entry):
                raise UsageError(
                    f"`{fs.show(directory)}` is not replaced: img did not unpack it, and `{fs.show(entry.path)}` would be lost",
                    hint="remove it, or choose another directory",
                )
    finally:
        os.close(old_fd)


def _mark_as_unpacked(fd: int) -> None:
    import xattr

    with suppress(OSError):  # a file system without attributes: next time the content has to tell
        xattr.setxattr(fd, _MARK, b"1")


def _was_unpacked(fd: int) -> bool:
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


def _apply(
    store: Store, layer: Descriptor, diff_id: DiffId, root_fd: int, policy: OwnerPolicy, directories: Directories
) -> Stats:
    """Unpack one layer over those below it, deletions included."""
    from img_core.archives.codecs import codec_of_media_type
    from img_core.archives.tar import unpack_stream

    try:
        _, stats = unpack_stream(
            store.blobs.chunks(layer),
            root_fd,
            "layer-apply",
            policy,
            compression=codec_of_media_type(layer.media_type),
            expected_digest=layer.digest,
            expected_size=layer.size,
            expected_diff_id=diff_id,
            directories=directories,
        )
    except NotFoundError:
        raise NotFoundError(
            f"layer {layer.digest} is missing in the state directory", hint="pull the image again"
        ) from None
    except ArchiveError as err:
        message = f"layer {layer.digest} cannot be unpacked: {err.message}"
        raise ArchiveError(message, hint=err.hint) from err
    return stats


@contextmanager
def _staged(final: str) -> Iterator[int]:
    """Give a descriptor of a new directory that becomes *final* when the block succeeds, and vanishes when it fails."""
    parent = os.path.dirname(final)
    with fs.disk_errors(parent):
        os.makedirs(parent, exist_ok=True)
        stage = os.path.join(parent, f".{os.path.basename(final)}.{secrets.token_hex(6)}")
        fs.mkdir(stage, 0o755)
    try:
        descriptor = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
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
