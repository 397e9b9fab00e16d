"""From what people type to a stored image: a name, a name with a digest, or an id, whole or cut.

The id of an image is the digest of what its name means, as ``img ls`` shows it; the digest of a config, and that of one platform's
manifest of an index, are ids of that one image. Names win over cut ids, whole ids over names, as with docker.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from img_core.images.digests import ALGORITHMS
from img_core.images.reference import Reference, full_id
from img_core.spec.errors import ImgError, UsageError
from img_core.store.images import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.spec.values import Descriptor, Digest
    from img_core.store.images import Images

__all__ = ["AmbiguousId", "find_by_id", "find_image"]

_CUT_ID = re.compile(rf"(?:({'|'.join(ALGORITHMS)}):)?([a-f0-9]{{4,128}})")
_SHOWN = 5  # candidates in a hint


class AmbiguousId(UsageError):
    """Several images have ids that start with what was typed."""


def find_image(images: Images, text: str, *, prefix: str = "") -> Image | None:
    """Return the image that *text* means, or None. Found by an id, its name is that id: see `Image.is_untagged`.

    Raises AmbiguousId, and UsageError for what is neither a name nor an id, its message after *prefix*.
    """
    if full_id(text):
        return find_by_id(images, text)
    named = images.find(str(Reference.parse(text, prefix=prefix).with_default_tag()))
    return named or find_by_id(images, text)


def find_by_id(images: Images, text: str) -> Image | None:
    """Return the image whose id is *text*, or starts with its four or more digits; None if there is none. Raises AmbiguousId."""
    match = _CUT_ID.fullmatch(text)
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


def _ids(images: Images) -> Iterator[tuple[Image, Digest, Descriptor]]:
    """Give each known id, with an image that has it and what it stands for."""
    for image in images.list():
        yield image, image.descriptor.digest, image.descriptor
        try:
            for content in images.contents(image.descriptor):
                yield image, content.manifest.digest, content.manifest
                yield image, content.config_descriptor.digest, content.manifest
        except ImgError:  # damaged: it can be found by what its name means only
            continue
