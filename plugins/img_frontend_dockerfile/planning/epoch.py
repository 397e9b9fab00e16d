"""``SOURCE_DATE_EPOCH``: a number, or the name of something whose time it is.

The name is ``context`` (the main context), a named context, or a stage that is nothing but one remote ADD on ``scratch``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from img_core.spec.errors import DockerfileError
from img_core.spec.graph import CONTEXT_SCHEME, FileOp, SourceOp
from img_core.spec.text import show
from img_frontend_dockerfile.planning.names import ContextTarget, StageTarget
from img_frontend_dockerfile.syntax.source import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.spec.graph import Vertex
    from img_frontend_dockerfile.planning.stage import Shared

__all__ = ["EPOCH", "epoch_of", "settle_epoch"]

EPOCH = "SOURCE_DATE_EPOCH"
_MAIN_CONTEXT = "context"
_DATED = ("git", "https")  # kinds of sources that know when their files were made


def epoch_of(shared: Shared, lower: Callable[[int], Vertex | None]) -> int | None:
    """Return the epoch in seconds since 1970 that a build argument or a global ARG asks for, None for none.

    Directories and images have no time: they leave the epoch unset. *lower* returns the files of a stage. Raises DockerfileError for what
    is neither a number nor such a name.
    """
    scope = shared.scope
    text = scope.build_arguments.get(EPOCH)
    if text is None and EPOCH in scope.declared:
        text = scope.values.get(EPOCH)
    if not text:
        return None
    if re.fullmatch(r"[0-9]{1,18}", text):
        return int(text)
    op = _origin(text, shared, lower)
    return shared.resolver.source_time(op) if op is not None else None


def settle_epoch(values: dict[str, str], epoch: int | None) -> dict[str, str]:
    """Return *values* with the number where they have the name of something; without an epoch the name, or number, goes."""
    text = values.get(EPOCH)
    if not text or (text.isdigit() and epoch is not None):
        return values
    rest = {name: value for name, value in values.items() if name != EPOCH}
    return rest if epoch is None else {**rest, EPOCH: str(epoch)}


def _origin(text: str, shared: Shared, lower: Callable[[int], Vertex | None]) -> SourceOp | None:
    """Return what has the time, None if that is something without one."""
    if text == _MAIN_CONTEXT:
        return SourceOp(shared.resolver.context_kind(text) or CONTEXT_SCHEME, shared.resolver.context_reference(text))
    target = shared.names.known(text)
    if isinstance(target, ContextTarget):
        return SourceOp(target.kind, target.value) if target.kind in _DATED else None
    if not isinstance(target, StageTarget):
        hint = "write the seconds since 1970-01-01 UTC, `context`, or the name of a build context or stage"
        raise _invalid(text, hint, shared)
    op = _only_source(lower(target.index))
    if op is None:
        raise _invalid(text, f"stage `{text}` must be `FROM scratch` and one ADD of a URL or repository", shared)
    return op


def _invalid(text: str, hint: str, shared: Shared) -> DockerfileError:
    """Return the error, with the place of the ARG if the value is from there."""
    message = f"invalid {EPOCH}: {text}"
    places = [item.span for item in shared.program.arguments if any(name == EPOCH for name, _ in item.pairs)]
    if EPOCH in shared.scope.build_arguments or not places:
        return DockerfileError(show(message), hint=show(hint))
    return shared.program.source.error(Fault(message, hint=hint), places[-1])


def _only_source(root: Vertex | None) -> SourceOp | None:
    """Return the remote source of a tree that is nothing else."""
    if root is None or not isinstance(root.op, FileOp) or len(root.op.actions) != 1 or len(root.inputs) != 1:
        return None
    op = root.inputs[0].op
    return op if isinstance(op, SourceOp) and op.scheme in _DATED else None
