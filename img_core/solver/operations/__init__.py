"""One handler for each kind of operation of the graph: what its result depends on, and how it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from img_core.solver.operations._file import FileHandler
from img_core.solver.operations._merge import MergeHandler
from img_core.solver.operations._run import RunHandler
from img_core.solver.operations._source import SourceHandler
from img_core.solver.trees import Trees
from img_core.spec.graph import FileOp, MergeOp, RunOp, SourceOp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.solver.handler import Handler
    from img_core.solver.scope import BuildScope
    from img_core.spec.graph import Op

__all__ = ["FileHandler", "RunHandler", "handlers"]


def handlers(
    scope: BuildScope,
) -> Mapping[type[Op], Handler[Any]]:  # Any: each handles the operation that it stands for
    """Return the handlers of one build."""
    trees = Trees(scope)
    return {
        SourceOp: SourceHandler(scope),
        RunOp: RunHandler(scope, trees),
        FileOp: FileHandler(scope, trees),
        MergeOp: MergeHandler(scope),
    }
