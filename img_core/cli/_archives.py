"""Archives that a repeated build writes again: the blobs of the store, and the bytes between them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from img_core.files.output import open_output

if TYPE_CHECKING:
    from img_core.files.output import OpenOutput

__all__ = ["Archive", "write"]

_CHUNK = 1 << 20


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
            if number % 2:
                _copy(state, os.fsdecode(part), output)
            else:
                output.write(part)
    return True


def _copy(state: str, path: str, output: OpenOutput) -> None:
    import hashlib

    from img_core.spec.errors import IntegrityError

    _, algorithm, expected = path.split("/")
    hasher = hashlib.new(algorithm)
    with open(os.path.join(state, path), "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
            output.write(chunk)
    if hasher.hexdigest() != expected:
        raise IntegrityError(f"blob {algorithm}:{expected} is damaged on disk")
