"""Planning without a build: what a frontend may ask, answered from memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from img_core.spec.errors import NotFoundError
from img_core.spec.frontend import BaseImage, PlanRequest
from img_core.spec.graph import SourceOp
from img_core.spec.values import Digest, Platform

if TYPE_CHECKING:
    from img_core.spec.frontend import Plan
    from img_core.spec.graph import Vertex

__all__ = ["AMD64", "ARM64", "ReadyResolver", "request", "vertices"]

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
_BASE: dict[str, Any] = {"config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]}, "history": [{"created_by": "base"}]}


@dataclass(slots=True)
class ReadyResolver:
    """A `Resolver` that knows every image (an ordinary one) but those with ``absent`` in their names, and no named context."""

    images: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  #: config documents by reference; Any: JSON
    ignore: str | None = None

    def expect(self, images: Sequence[tuple[str, Platform]]) -> None:
        """See `Resolver.expect`."""

    def base_image(self, reference: str, platform: Platform) -> BaseImage:
        """See `Resolver.base_image`."""
        if "absent" in reference:
            raise NotFoundError(f"image `{reference}`: not found")
        document = {"os": platform.os, "architecture": platform.architecture, **self.images.get(reference, _BASE)}
        return BaseImage(reference, Digest("sha256:" + "1" * 64), platform, document)

    def context_kind(self, name: str) -> str | None:
        """See `Resolver.context_kind`."""
        return None

    def context_reference(self, name: str) -> str:
        """See `Resolver.context_reference`."""
        return name

    def context_is_image(self, name: str) -> bool:
        """See `Resolver.context_is_image`."""
        return False

    def source_time(self, op: SourceOp) -> int | None:
        """See `Resolver.source_time`."""
        return None

    def why_missing(self, op: SourceOp, path: str, *, parents: bool) -> str | None:
        """See `Resolver.why_missing`."""
        return None

    def ignore_file(self) -> str | None:
        """See `Resolver.ignore_file`."""
        return self.ignore


def request(
    definition: bytes, *, filename: str = "definition", **more: Any
) -> PlanRequest:  # Any: the request's fields
    """Return a request to build *definition* for one platform, unless *more* says otherwise."""
    return PlanRequest(definition, filename, **{"platforms": (AMD64,), "build_platform": AMD64, **more})


def vertices(plan: Plan) -> list[Vertex]:
    """Return every vertex below the images of *plan* once, inputs first."""
    return list(plan.vertices())
