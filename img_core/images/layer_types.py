"""Media types of layers, and what they say about compression."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.images import oci
from img_core.spec.errors import ImgError

if TYPE_CHECKING:
    from img_core.spec.values import Descriptor

__all__ = ["codec_of_media_type", "layer_codec", "layer_type"]

#: (codec, Docker media types?) -> media type
_LAYER_TYPES = {
    ("uncompressed", False): oci.OCI_LAYER,
    ("uncompressed", True): oci.DOCKER_LAYER,
    **{(name, False): f"{oci.OCI_LAYER}+{name}" for name in oci.LEVELS},
    **{(name, True): f"{oci.DOCKER_LAYER}.{name}" for name in oci.LEVELS},
}


def layer_codec(descriptor: Descriptor) -> str:
    """Return ``gzip``, ``zstd`` or ``uncompressed`` for a stored layer. Raises ImgError for a type that we do not know."""
    codec = oci.layer_compression(descriptor.media_type)
    if codec is None:
        raise ImgError(f"layer {descriptor.digest} has the unknown type `{descriptor.media_type}`")
    return codec or "uncompressed"


def layer_type(codec: str, *, docker: bool) -> str:
    """Return the media type of a layer that is compressed by *codec*."""
    return _LAYER_TYPES[codec, docker]


def codec_of_media_type(media_type: str) -> str | None:
    """Return ``gzip``, ``zstd`` or None (not compressed) for the media type of a layer, OCI or Docker."""
    return next((name for name in oci.LEVELS if media_type.endswith((f"+{name}", f".{name}"))), None)
