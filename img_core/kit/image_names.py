"""The option ``name`` of the exporters of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from img_core.kit.reference import Reference
from img_core.kit.text import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["all_names"]


def all_names(given: Iterable[str], options: Mapping[str, Any]) -> list[str]:
    """Return the names of the build and those of the option ``name``, normalised, each once.

    Raises InvalidReference, a UsageError, for what is no image name.
    """
    texts = [text.strip() for text in str(options.get("name") or "").split(",")]
    return list(dict.fromkeys([*given, *(str(_with_tag(text)) for text in texts if text)]))


def _with_tag(text: str) -> Reference:
    reference = Reference.parse(text, prefix=f"invalid image name `{show(text)}`: ")
    return reference.with_default_tag()
