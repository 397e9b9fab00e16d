"""What steps may ask for only if the caller agrees (``--allow``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.spec.errors import UsageError
from img_core.spec.graph import RunOp
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from img_core.spec.frontend import Plan

__all__ = ["check_entitlements"]

_INSECURE = "security.insecure"
_HOST_NETWORK = "network.host"
_KNOWN = (_HOST_NETWORK, _INSECURE, "buildx.local.delete")


def check_entitlements(plan: Plan, allowed: Iterable[str], *, isolated: Callable[[], bool]) -> None:
    """Raise UsageError for an unknown entitlement, or if a step of *plan* needs one that is not among *allowed*.

    The host's network needs leave only in a build that is *isolated* from it: by default all steps have it, as in the original img.
    """
    given = set(allowed)
    for name in sorted(given):
        if name not in _KNOWN:
            raise UsageError(f"invalid entitlement `{name}`", hint=f"known: {', '.join(f'`{n}`' for n in _KNOWN)}")
    for vertex in plan.vertices():
        if not isinstance(vertex.op, RunOp):
            continue
        needed = {
            _INSECURE: vertex.op.security == "insecure",
            _HOST_NETWORK: vertex.op.network == "host" and isolated(),
        }
        for name, is_needed in needed.items():
            if is_needed and name not in given:
                raise UsageError(f"{name} is not allowed: `{show(vertex.name)}`", hint=f"use `--allow {name}`")
