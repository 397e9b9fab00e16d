"""How people name caches: what stands after ``--cache-from`` and ``--cache-to`` (docs/reference/caches.md)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from img_core.api._request import CachePlace
from img_core.config import DEFAULT_CACHE, DEFAULT_CACHE_OPTION, DIRECTORY_CACHE, DIRECTORY_CACHE_OPTIONS
from img_core.forms.options import parse_typed
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["cache_places", "directory_or_place", "parse_places", "unique_places"]


def cache_places(texts: Iterable[str], name: str) -> tuple[CachePlace, ...]:
    """Parse what stands after each use of the flag *name*; the same place twice is one. Raises UsageError."""
    return unique_places(place for text in texts for place in parse_places(text, name))


def parse_places(text: str, name: str) -> list[CachePlace]:
    """Parse what stands after the flag or argument *name*, by the rules of docker's buildx. Raises UsageError.

    ``type=local,dest=cache`` is one place; without any ``=`` each field is an image name of the default cache. Nothing is no place.
    """
    found = parse_typed(text, name, bare=(DEFAULT_CACHE, DEFAULT_CACHE_OPTION))
    return [CachePlace(choice.name, choice.options) for choice in found]


def directory_or_place(text: str, *, export: bool) -> CachePlace:
    """Return the one place that *text* means: a directory, an image name, or what stands after a flag. Raises UsageError."""
    if os.path.isdir(text) or text.startswith(("/", "./", "../")) or text in (".", ".."):
        return CachePlace(DIRECTORY_CACHE, {DIRECTORY_CACHE_OPTIONS[export]: os.path.abspath(text)})
    places = parse_places(text, "cache")
    if len(places) != 1:
        raise UsageError(f"`{text}` names {len(places) or 'no'} caches instead of one")
    return places[0]


def unique_places(places: Iterable[CachePlace]) -> tuple[CachePlace, ...]:
    """Return *places* without those that were named before with the same options."""
    found: list[CachePlace] = []
    for place in places:
        if place not in found:
            found.append(place)
    return tuple(found)
