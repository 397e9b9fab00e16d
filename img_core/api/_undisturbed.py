"""What a frontend asks while it plans is answered to the end, also when a signal interrupts the planning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from img_core.linux.cancellation import Cancellation
    from img_core.spec.frontend import Resolver

__all__ = ["undisturbed"]


def undisturbed(resolver: Resolver, cancellation: Cancellation) -> Resolver:
    """Return what answers as *resolver* does. Within `Cancellation.interrupting` its work on disk and network is not left in its middle.

    It watches the cancellation itself where it waits.
    """
    return cast("Resolver", _Undisturbed(resolver, cancellation))


class _Undisturbed:
    """Whatever *resolver* can do, each call done to its end."""

    def __init__(self, resolver: Resolver, cancellation: Cancellation) -> None:
        self._resolver = resolver
        self._cancellation = cancellation

    def __getattr__(self, name: str) -> Any:  # Any: a method of the resolver
        method = getattr(self._resolver, name)

        def call(*arguments: Any, **named: Any) -> Any:
            with self._cancellation.interrupting(False):
                return method(*arguments, **named)

        return call
