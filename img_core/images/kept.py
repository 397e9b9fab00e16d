"""Images that are kept, and from what people type to one of them: a name, a name with a digest, or an id, whole or cut.

The id of an image is the digest of what its name means, as ``img ls`` shows it; the digest of a config, and that of one platform's
manifest of an index, are ids of that one image. Names win over cut ids, whole ids over names, as with docker.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from img_core.images.digests import ALGORITHMS
from img_core.images.reference import Reference, full_id
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import ImgError, UsageError
from img_core.spec.text import show_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from img_core.images.contents import ImageContent
    from img_core.spec.values import Descriptor, Digest

__all__ = ["AmbiguousId", "Image", "ImageNames", "check_pin", "find_by_id", "find_image"]

_CUT_ID = rf"(?:({'|'.join(ALGORITHMS)}):)?([a-f0-9]{{4,128}})"
_SHOWN = 5  # candidates in a hint


@dataclass(frozen=True, slots=True)
class Image:
    """A name and what it means; times in seconds since 1970 UTC. An image without a name has its digest as its name.

    *content_size* is the stored bytes of its manifest, config and layers for this host (else of the first platform), if that was noted.
    *replaced*: it has no name because another image got it.
    """

    name: str
    descriptor: Descriptor
    created: float
    updated: float
    content_size: int | None = None
    replaced: bool = False

    @property
    def is_untagged(self) -> bool:
        """Whether it is known by its id only, which docker calls dangling."""
        return self.name == self.descriptor.digest

    def as_id(self) -> Image:
        """Return the same image, called by its id."""
        return replace(self, name=self.descriptor.digest)


class ImageNames(Protocol):
    """What is kept, by name and by what the names mean."""

    def list(self) -> Iterable[Image]:
        """Return all images, by name."""

    def find(self, name: str) -> Image | None:
        """Return the image called *name* (normalised, with tag), or None."""

    def with_digest(self, digest: str) -> Image | None:
        """Return an image that means *digest*, whatever its name, or None."""

    def contents(self, descriptor: Descriptor) -> Iterator[ImageContent]:
        """Give each complete image behind *descriptor*. Raises NotFoundError, IntegrityError."""


class AmbiguousId(UsageError):
    """Several images have ids that start with what was typed."""


def find_image(images: ImageNames, text: str, *, prefix: str = "") -> Image | None:
    """Return the image that *text* means, or None. Found by an id, its name is that id: see `Image.is_untagged`.

    Raises AmbiguousId, and UsageError for what is neither a name nor an id, its message after *prefix*.
    """
    if full_id(text):
        return find_by_id(images, text)
    named = images.find(str(Reference.parse(text, prefix=prefix).with_default_tag()))
    return named or find_by_id(images, text)


def find_by_id(images: ImageNames, text: str) -> Image | None:
    """Return the image whose id is *text*, or starts with its four or more digits; None if there is none. Raises AmbiguousId."""
    match = re.fullmatch(_CUT_ID, text)
    if match is None:
        return None
    if (whole := full_id(text)) and (image := images.find(whole) or images.with_digest(whole)):
        return image.as_id()
    starts = tuple(f"{algorithm}:{match[2]}" for algorithm in ([match[1]] if match[1] else ALGORITHMS))
    found = {target.digest: (image, target) for image, known, target in _ids(images) if known.startswith(starts)}
    if len(found) > 1:
        shown = ", ".join(sorted(found)[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
        raise AmbiguousId(f"the id `{text}` is ambiguous", hint=f"it is the start of {shown}")
    for image, target in found.values():
        return Image(target.digest, target, image.created, image.updated)
    return None


def _ids(images: ImageNames) -> Iterator[tuple[Image, Digest, Descriptor]]:
    """Give each known id, with an image that has it and what it stands for."""
    for image in images.list():
        yield image, image.descriptor.digest, image.descriptor
        try:
            for content in images.contents(image.descriptor):
                yield image, content.manifest.digest, content.manifest
                yield image, content.config_descriptor.digest, content.manifest
        except ImgError:  # damaged: it can be found by what its name means only
            continue


def check_pin(name: str, descriptor: Descriptor) -> None:
    """Raise UsageError if *name* has a digest, and *descriptor* another."""
    pin = name.partition("@")[2]
    if pin and pin != descriptor.digest:
        raise UsageError(
            f"`{show_path(name)}` cannot be the name of {descriptor.digest}",
            hint="a name with a digest means the image of that digest and no other",
        )
