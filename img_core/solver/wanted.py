"""What a build takes from outside, as rules have it: a lock says which bytes, a policy of a listener what may stand for it, or nothing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from img_core.spec.errors import PluginError, UsageError
from img_core.spec.graph import CONTEXT_SCHEME, SourceOp
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    #: Returns what is taken instead; None: as it is. Raises ImgError for what must not be taken.
    Rule = Callable[[SourceOp], SourceOp | None]

__all__ = ["WantedSources"]

_ROUNDS = 10


class WantedSources:
    """Applies *rules* to each source of one build, once, before anything is asked of it. A context on this machine is nobody's business."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self._rules = rules
        self._known: dict[SourceOp, SourceOp] = {}
        self._guard = threading.Lock()  # of what is known; rules are asked by one thread at a time

    def __call__(self, op: SourceOp) -> SourceOp:
        """Return what is taken for *op*: what one rule makes of it is shown to all of them again, until none wants anything else."""
        if not self._rules or op.scheme == CONTEXT_SCHEME:
            return op
        with self._guard:
            if op not in self._known:
                self._known[op] = self._settled(op)
            return self._known[op]

    def _settled(self, op: SourceOp) -> SourceOp:
        current = op
        for _ in range(_ROUNDS):
            changed = next((other for rule in self._rules if (other := rule(current)) not in (None, current)), None)
            if changed is None:
                return current
            if not isinstance(changed, SourceOp):
                raise PluginError(f"a listener wants `{show(repr(changed))}` instead of `{show(op.identifier)}`")
            current = changed
        raise UsageError(f"`{show(op.identifier)}` is replaced again and again", hint="see your source policy")
