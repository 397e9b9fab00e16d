"""``img prune``: remove what neither an image with a name nor a running command needs."""

from __future__ import annotations

from img_core.cli._pruning import Scope, prune_command

__all__ = ["command"]

command = prune_command("prune", "Prune and clean up the build cache.", Scope(images="untagged"))
