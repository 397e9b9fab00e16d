"""From what a caller wants to be pruned to what the store removes."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from img_core.spec.errors import UsageError
from img_core.store.collect import Policy
from img_core.store.usage import ABANDONED, LOG, SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from img_core.store.images import Image
    from img_core.store.usage import Piece

__all__ = ["policies"]

_IMAGES: dict[str, Callable[[Image], bool]] = {
    "none": lambda _image: False,
    "untagged": lambda image: image.is_untagged,
    "all": lambda _image: True,
}
_CACHES = ("all", "unshared")


def policies(
    *, images: str, cache: str, records: bool, unused: float, keep: int, matching: Callable[[Piece], bool] | None
) -> list[Policy]:
    """Return what is to be removed, one after the other; see `Client.prune`. Raises UsageError."""
    for name, value, known in (("images", images, (*_IMAGES,)), ("cache", cache, _CACHES)):
        if value not in known:
            raise UsageError(f"`{name}` of prune() is `{value}`", hint=f"known: {', '.join(known)}")
    return list(_policies(_IMAGES[images], cache == "unshared", records, unused, keep, matching))


def _policies(
    goes: Callable[[Image], bool],
    spare: bool,
    records: bool,
    unused: float,
    keep: int,
    matching: Callable[[Piece], bool] | None,
) -> Iterator[Policy]:
    if spare and (matching is None or unused):
        latest = time.time() - unused
        yield Policy(images=lambda image: goes(image) and image.created <= latest, only_images=True)
    policy = Policy(unused_seconds=unused, keep_bytes=keep, records=records, images=_IMAGES["none"] if spare else goes)
    matches = _unshared(matching) if spare else matching
    yield policy if matches is None else replace(policy, matches=matches)


def _unshared(matching: Callable[[Piece], bool] | None) -> Callable[[Piece], bool]:
    """Return what a piece has to pass if what images share, documents and logs stay."""

    def goes(piece: Piece) -> bool:
        kept = piece.shared or piece.document or piece.kind in (LOG, SOURCE)
        return (not kept or piece.kind == ABANDONED) and (matching is None or matching(piece))

    return goes
