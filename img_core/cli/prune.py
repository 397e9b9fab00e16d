"""``img prune``: remove what neither an image with a name nor a running command needs."""

from __future__ import annotations

from img_core.cli._pruning import Scope, prune_command
from img_core.store.images import Image

__all__ = ["command"]


def _untagged(image: Image, _everything: bool) -> bool:
    return image.is_untagged


command = prune_command("prune", "Prune and clean up the build cache.", Scope(images=_untagged))
