"""What a frontend asks while it plans is answered to the end, also when a signal interrupts the planning."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_core.linux.cancellation import Cancellation
    from img_core.spec.frontend import BaseImage, Resolver
    from img_core.spec.graph import SourceOp
    from img_core.spec.values import Platform

__all__ = ["UndisturbedResolver"]


class UndisturbedResolver:
    """Answers as *resolver* does. Within `Cancellation.interrupting` its work on disk and network is not left in its middle.

    It watches the cancellation itself where it waits.
    """

    def __init__(self, resolver: Resolver, cancellation: Cancellation) -> None:
        self._resolver = resolver
        self._cancellation = cancellation

    def expect(self, images: Sequence[tuple[str, Platform]]) -> None:
        """See `Resolver.expect`."""
        with self._cancellation.interrupting(False):
            self._resolver.expect(images)

    def base_image(self, reference: str, platform: Platform) -> BaseImage:
        """See `Resolver.base_image`."""
        with self._cancellation.interrupting(False):
            return self._resolver.base_image(reference, platform)

    def context_kind(self, name: str) -> str | None:
        """See `Resolver.context_kind`."""
        return self._resolver.context_kind(name)

    def context_reference(self, name: str) -> str:
        """See `Resolver.context_reference`."""
        return self._resolver.context_reference(name)

    def context_is_image(self, name: str) -> bool:
        """See `Resolver.context_is_image`."""
        return self._resolver.context_is_image(name)

    def source_time(self, op: SourceOp) -> int | None:
        """See `Resolver.source_time`."""
        with self._cancellation.interrupting(False):
            return self._resolver.source_time(op)

    def why_missing(self, op: SourceOp, path: str, *, parents: bool) -> str | None:
        """See `Resolver.why_missing`."""
        with self._cancellation.interrupting(False):
            return self._resolver.why_missing(op, path, parents=parents)

    def ignore_file(self) -> str | None:
        """See `Resolver.ignore_file`."""
        with self._cancellation.interrupting(False):
            return self._resolver.ignore_file()
