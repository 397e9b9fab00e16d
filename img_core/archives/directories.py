"""A whole directory as the blob of a layer, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from img_core.archives.tar import OwnerPolicy, unpack_stream, write_layer
from img_core.files import fs, treewalk
from img_core.files.ownership import Owners
from img_core.forms.words import binary_size
from img_core.images.layer_types import layer_codec
from img_core.spec.errors import ImgError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from img_core.archives.tar import LayerInfo
    from img_core.spec.host import IdMapping
    from img_core.spec.values import Descriptor, DiffId

__all__ = ["TooLargeError", "pack_directory", "unpack_directory"]


class _File(Protocol):
    """Where the blob goes."""

    path: str

    @property
    def size(self) -> int: ...

    def write(self, data: bytes, /) -> object: ...


class TooLargeError(ImgError):
    """What was to be packed takes more than *limit* bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"it has more than {binary_size(limit)}")
        self.limit = limit


def pack_directory(
    directory: str, file: _File, *, compression: str, limit: int, check: Callable[[], None]
) -> LayerInfo:
    """Write all that is in *directory* to *file*, compressed; *check* is called meanwhile and may raise.

    Raises TooLargeError for more than *limit* bytes, OSError, ImgError.
    """

    def write(data: bytes) -> None:
        check()
        if file.size + len(data) > limit:
            raise TooLargeError(limit)
        file.write(data)

    with fs.opened_directory(directory) as root_fd, fs.disk_errors(file.path):
        entries = ((entry.path, entry.info) for entry in treewalk.walk(root_fd) if not entry.leaving)
        return write_layer(entries, root_fd, write, compression=compression)


def unpack_directory(
    directory: str, chunks: Iterable[bytes], descriptor: Descriptor, diff_id: DiffId, mapping: IdMapping
) -> None:
    """Unpack a layer, the blob *descriptor* that arrives in *chunks*, into the empty *directory*; no devices are made.

    Owners are set, or noted where this *mapping* of ids has none of others. Raises ArchiveError, IntegrityError for what is not *diff_id*.
    """
    codec = layer_codec(descriptor)
    owners = Owners(mapping)
    with fs.opened_directory(directory) as root_fd:
        unpack_stream(
            chunks,
            root_fd,
            "plain",
            OwnerPolicy("record" if owners.records else "set", devices=False, open_to_owner=owners.opens),
            compression=None if codec == "uncompressed" else codec,
            expected_digest=descriptor.digest,
            expected_size=descriptor.size,
            expected_diff_id=diff_id,
        )
