"""Archives that a repeated build writes again: the blobs of the store, and the bytes between them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from img_core.files.output import open_output
from img_core.images.digests import blob_chunks, digest_at
from img_core.spec.errors import IntegrityError
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Archive", "write"]


class Archive(NamedTuple):
    """The file *dest*. Of its *parts* each second one is the path of a blob in the state directory, ``blobs/sha256/…``."""

    dest: str
    parts: tuple[bytes, ...]


def write(archive: Archive, state: str) -> bool:
    """Write *archive* of the blobs in *state*, each of which is verified; return False, and write nothing, where no file can be replaced.

    Raises ImgError or OSError if it cannot be written or a blob is not what it was; the file is as before then.
    """
    if os.path.lexists(archive.dest) and not os.path.isfile(archive.dest):
        return False  # a pipe or a device: what it got could not be taken back if something fails
    with open_output(archive.dest) as output:
        for number, part in enumerate(archive.parts):
            for data in _blob(state, os.fsdecode(part)) if number % 2 else (part,):
                output.write(data)
    return True


def _blob(state: str, path: str) -> Iterator[bytes]:
    digest = digest_at(path)
    if digest is None:
        raise IntegrityError(f"`{show(path)}` is no blob")
    return blob_chunks(state, digest)
