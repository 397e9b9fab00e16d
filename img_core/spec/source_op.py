"""What a graph takes from outside: a part of `img_core.spec.graph`, by itself for who pulls an image and plans nothing."""

from __future__ import annotations

from img_core.spec.dataclass import dataclass

__all__ = ["CONTEXT_SCHEME", "IMAGE_SCHEME", "SourceOp"]

#: Schemes that frontends and solver rely on, whichever plugins serve them: an image by its reference, a build context on this machine.
IMAGE_SCHEME = "docker-image"
CONTEXT_SCHEME = "local"


@dataclass(frozen=True, slots=True)
class SourceOp:
    """Files or an image from outside the graph; no inputs.

    *scheme* selects the source driver: ``docker-image`` (*reference* is a normalised image reference), ``local`` (*reference* is the
    name of a build context), ``git``, ``https``. An image source is a stack of layers; every other source is a directory tree.
    """

    scheme: str
    reference: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def identifier(self) -> str:
        """What locks and policies call it, as BuildKit does: ``docker-image://REFERENCE``, ``git://HOST/PATH#REF``, the URL of a file."""
        own, separator, rest = self.reference.partition("://")
        if not separator:
            return f"{self.scheme}://{self.reference}"
        return self.reference if own in (self.scheme, self.scheme.removesuffix("s")) else f"{self.scheme}://{rest}"
