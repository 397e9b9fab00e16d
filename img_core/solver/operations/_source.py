"""Images and trees of files from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.solver.handler import Done, Handler
from img_core.solver.stacks import image_stack
from img_core.spec.graph import IMAGE_SCHEME, SourceOp
from img_core.spec.source import Source, TreeSource

if TYPE_CHECKING:
    from img_core.solver.handler import Task

__all__ = ["SourceHandler"]


class SourceHandler(Handler[SourceOp]):
    """Finds out what exactly a source means; its bytes come when a step or an exporter needs them."""

    def run(self, task: Task[SourceOp]) -> Done:
        """Pin the source. An image is known by the chain of its layers, a tree by the identity that its source gives it."""
        op, platform = task.op, task.vertex.platform
        reference = op.reference
        if op.scheme != IMAGE_SCHEME:
            source: Source = self.scope.drivers.tree_source(op.scheme)
            if isinstance(source, TreeSource):
                taken = self.scope.resolver.wanted(op)
                return Done(self.scope.drivers.tree_source(taken.scheme).pin(taken, platform))
            reference = f"{op.scheme}://{reference}"
        image = self.scope.resolver.resolve(reference, platform or self.scope.host_platform)
        return Done(image_stack(image.content, fetch=image.fetch, step=task.vertex.digest, remote=image.remote))
