"""Layers of an image unpacked one over the other, into one tree of files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.images.digests import Hasher
from img_core.spec.errors import ArchiveError, NotFoundError
from img_core.spec.values import DiffId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from img_core.archives.tar import Directories, OwnerPolicy
    from img_core.spec.values import Descriptor

__all__ = ["diff_id_of", "unpack_layers"]

_REMEMBERED = 100  # how many left-out entries are named


def unpack_layers(
    layers: Iterable[tuple[Descriptor, DiffId]],
    chunks: Callable[[Descriptor], Iterable[bytes]],
    root_fd: int,
    policy: OwnerPolicy,
) -> tuple[tuple[bytes, ...], int]:
    """Unpack *layers*, lowest first, into the empty directory *root_fd*, deletions included; *chunks* gives the bytes of their blobs.

    Returns which entries were left out, a hundred at most, and how many there were. Raises ArchiveError, IntegrityError, and NotFoundError
    for a blob that is not there.
    """
    from img_core.archives.tar import finish_directories, unpack_stream
    from img_core.images.layer_types import codec_of_media_type

    directories: Directories = {}
    skipped: list[bytes] = []
    count = 0
    for layer, diff_id in layers:
        try:
            _, stats = unpack_stream(
                chunks(layer),
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
        skipped += stats.skipped[: _REMEMBERED - len(skipped)]
        count += stats.skipped_count
    finish_directories(root_fd, directories)
    return tuple(skipped), count


def diff_id_of(chunks: Iterable[bytes], layer: Descriptor, like: str) -> DiffId:
    """Return the digest, by the algorithm of *like*, of what the blob *layer* in *chunks* unpacks to. Raises ArchiveError."""
    from img_core.archives.codecs import decompressed
    from img_core.images.layer_types import layer_codec

    hasher = Hasher(like)
    for piece in decompressed(chunks, layer_codec(layer)):
        hasher.update(piece)
    return DiffId(hasher.digest)
