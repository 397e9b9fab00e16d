"""What is behind a manifest or an index: the images of all platforms that are here, with their documents parsed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from img_core.images import oci
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import NotFoundError
from img_core.spec.text import show
from img_core.spec.values import Descriptor, DiffId

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from img_core.spec.values import Digest, Platform

__all__ = ["Documents", "ImageContent", "blobs_of", "chosen_content", "content_size", "images_behind"]


class Documents(Protocol):
    """Where documents are kept."""

    def has(self, digest: Digest) -> bool:
        """Tell whether a document is kept."""

    def read(self, digest: Digest) -> bytes:
        """Return a document, verified. Raises NotFoundError, IntegrityError."""


@dataclass(frozen=True, slots=True)
class ImageContent:
    """One platform's image, with its documents parsed. *diff_ids* belong to *layers*, one by one."""

    manifest: Descriptor
    layers: tuple[Descriptor, ...]
    config: oci.ImageConfig
    config_descriptor: Descriptor
    diff_ids: tuple[DiffId, ...]


def images_behind(descriptor: Descriptor, documents: Documents, *, depth: int = 0) -> Iterator[ImageContent]:
    """Give each complete image behind *descriptor* (a manifest, or an index at *depth* in others), in the index's order.

    Raises NotFoundError, IntegrityError.
    """
    document = oci.parse_manifest_or_index(
        documents.read(descriptor.digest), name=descriptor.digest, media_type=descriptor.media_type
    )
    if isinstance(document, oci.Index):
        for child in document.manifests:
            known = child.media_type in oci.MANIFEST_TYPES | oci.INDEX_TYPES
            if known and depth < oci.INDEX_DEPTH and documents.has(child.digest):
                yield from images_behind(child, documents, depth=depth + 1)
    elif document.is_image:
        config = oci.parse_config(documents.read(document.config.digest), name=document.config.digest)
        oci.check_layers(document, config, name=descriptor.digest)
        layers, diff_ids = tuple(document.layers), tuple(config.diff_ids)
        yield ImageContent(descriptor, layers, config, document.config, diff_ids)


def blobs_of(top: Descriptor, contents: Iterable[ImageContent]) -> list[Digest]:
    """Return the digests of *top* and of all blobs of its images, each once; *contents* are those that are known."""
    blobs = [top.digest]
    for content in contents:
        blobs += [content.manifest.digest, content.config_descriptor.digest, *(item.digest for item in content.layers)]
    return list(dict.fromkeys(blobs))


def chosen_content(contents: Sequence[ImageContent], platform: Platform | None, shown: str) -> ImageContent:
    """Return the image for *platform*; if nobody asked for one, that for this host, else the only one there is.

    Raises NotFoundError naming *shown* and what there is.
    """
    from img_core.images import platforms

    wanted = platform or platforms.host_platform()
    choice = platforms.choose(wanted, [content.config.platform for content in contents])
    if choice is None and platform is None and len(contents) == 1:
        choice = 0
    if choice is None:
        offered = ", ".join(str(content.config.platform) for content in contents) or "none"
        raise NotFoundError(
            f'image "{show(shown)}" has no content for platform {wanted}', hint=f"kept platforms: {offered}"
        )
    return contents[choice]


def content_size(contents: Sequence[ImageContent]) -> int | None:
    """Return the bytes of manifest, config and layers for this host, else of the first platform; None if there is none."""
    from img_core.images import platforms

    if not contents:
        return None
    chosen = platforms.choose(platforms.host_platform(), [content.config.platform for content in contents])
    content = contents[chosen or 0]
    return content.manifest.size + content.config_descriptor.size + sum(layer.size for layer in content.layers)
