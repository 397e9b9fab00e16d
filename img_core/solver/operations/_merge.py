"""``COPY --link``: layers that were made on an empty root, on top of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.solver.handler import Done, Handler
from img_core.solver.keys import digest_of
from img_core.spec.graph import MergeOp

if TYPE_CHECKING:
    from img_core.solver.handler import Task

__all__ = ["MergeHandler"]


class MergeHandler(Handler[MergeOp]):
    """Stacks layers; nothing is done either way, so it is as new as what it puts together."""

    def run(self, task: Task[MergeOp]) -> Done:
        """Return the layers of both inputs, known by the identities of both."""
        base, upper = task.stack(0), task.stack(1)
        identity = digest_of("merge", base.identity, upper.identity)
        return Done(base.with_linked(upper, identity), found=not task.inputs_made)
