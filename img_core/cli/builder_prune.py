"""``img builder prune`` and ``img buildx prune``: remove build cache, never an image."""

from __future__ import annotations

from img_core.cli._pruning import Scope, prune_command

__all__ = ["command"]


def _warning(everything: bool) -> str:
    return "this removes all build cache" if everything else "this removes the build cache that no image shares"


command = prune_command("prune", "Remove build cache; images stay.", Scope(spares_shared=True, warning=_warning))
