"""Names that people give to images: with ``-t``, ``img tag``, and the option ``name`` of the exporters of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from img_core.images.digests import ALGORITHMS
from img_core.images.reference import InvalidReference, Reference
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["all_names", "new_name"]


def all_names(given: Iterable[str], options: Mapping[str, Any]) -> list[str]:
    """Return the names of the build and those of the option ``name``, normalised, each once.

    Raises InvalidReference, a UsageError, for what is no image name.
    """
    texts = [text.strip() for text in str(options.get("name") or "").split(",")]
    named = [new_name(text, prefix=f"invalid image name `{show(text)}`: ") for text in texts if text]
    return list(dict.fromkeys([*given, *named]))


def new_name(text: str, *, prefix: str = "", pinned: bool = False) -> str:
    """Return *text*, the name for an image that is made or named, normalised and with a tag.

    Raises InvalidReference, its message after *prefix*, for what is no name, for one that looks like an id, and for one with a digest
    unless *pinned* allows it: what an image has for a digest shows when it is made.
    """
    reference = Reference.parse(text, prefix=prefix)
    if reference.familiar_name in ALGORITHMS:
        algorithm = reference.familiar_name
        raise InvalidReference(f"{prefix}`{algorithm}` is the name of a digest algorithm: it would look like an id")
    if reference.digest and not pinned:
        raise InvalidReference(
            f"{prefix}a name with a digest means the image of that digest, not a new one",
            hint="use a tag, such as `app:1`",
        )
    return str(reference.with_default_tag())
