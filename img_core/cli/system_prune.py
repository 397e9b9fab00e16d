"""``img system prune``: remove images without a name and the build cache; with ``--all`` every image."""

from __future__ import annotations

from img_core.cli._pruning import Scope, prune_command

__all__ = ["command"]


def _warning(everything: bool) -> str:
    if everything:
        return "this removes all images and all build cache"
    return "this removes all images without a name and the build cache that no image shares"


command = prune_command(
    "prune",
    "Remove images without a name and build cache; with --all all images.",
    Scope(images="untagged", all_images=True, spares_shared=True, warning=_warning),
)
