"""What a frontend and the steps of one build ask about images and contexts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from img_core.images.reference import Reference, full_id
from img_core.solver.wanted import WantedSources
from img_core.spec.errors import ImgError, NotFoundError
from img_core.spec.graph import CONTEXT_SCHEME, IMAGE_SCHEME, SourceOp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from img_core.images.resolving import ImageResolver, ResolvedImage
    from img_core.spec.frontend import BaseImage
    from img_core.spec.source import ImageSource
    from img_core.spec.values import Platform

__all__ = ["BuildResolver"]


class ContextFacts(Protocol):
    """What is known of the contents of build contexts (spec.frontend.Resolver)."""

    @property
    def ignore_text(self) -> str | None: ...

    def source_time(self, op: SourceOp) -> int | None: ...

    def why_missing(self, op: SourceOp, path: str, *, parents: bool) -> str | None: ...


class BuildResolver:
    """Answers the frontend's and the solver's questions about *images* and contexts (spec.frontend.Resolver)."""

    def __init__(
        self,
        images: ImageResolver,
        source: Callable[[str], ImageSource],
        *,
        contexts: Mapping[str, tuple[str, str]] | None = None,
        facts: ContextFacts,
        wanted: WantedSources | None = None,
    ) -> None:
        self.images = images
        self._source = source
        self._contexts = {"context": (CONTEXT_SCHEME, "context"), **(contexts or {})}  #: name to kind and reference
        self._facts = facts
        self.wanted = wanted or WantedSources()  #: what is taken for a source that the definition names

    def base_image(self, reference: str, platform: Platform) -> BaseImage:
        """Resolve an image for the frontend."""
        return self.resolve(reference, platform).base

    def context_kind(self, name: str) -> str | None:
        """Tell what a named build context is, or None if there is none of that name."""
        return self._contexts[name][0] if name in self._contexts else None

    def context_reference(self, name: str) -> str:
        """Return the value behind a named context."""
        if name not in self._contexts:
            raise NotFoundError(f"build context `{name}`: not found")
        return self._contexts[name][1]

    def context_is_image(self, name: str) -> bool:
        """Tell whether a named context is an image."""
        kind = self._contexts[name][0]
        return kind == IMAGE_SCHEME or self._source(kind).makes_image

    def ignore_file(self) -> str | None:
        """Return the text of the main context's ignore file."""
        return self._facts.ignore_text

    def source_time(self, op: SourceOp) -> int | None:
        """Return when the tree behind *op* was made, if its origin tells."""
        return self._facts.source_time(self.wanted(op))

    def why_missing(self, op: SourceOp, path: str, *, parents: bool) -> str | None:
        """Say why COPY of *path* from the local context *op* would find nothing; None if it may find something."""
        return self._facts.why_missing(op, path, parents=parents)

    def resolve(self, text: str, platform: Platform) -> ResolvedImage:
        """Return the image that *text* means for *platform*, the same one each time within a build.

        *text* is a reference, or ``<scheme>://<reference>`` for another source of images than registries. What rules want instead of it
        goes by its name.
        """
        if full_id(text):
            return self.images.by_id(text, platform)
        op = _named(text)
        taken = self.wanted(op)
        if taken == op:
            return self.images.resolve(op, platform)
        name = text if op.scheme != IMAGE_SCHEME else op.reference
        return replace(self.images.resolve(taken, platform), reference=name)

    def expect(self, images: Sequence[tuple[str, Platform]]) -> None:
        """Ask for several images at the same time; who wants one gets what came of it, or the error."""
        named = []
        for text, platform in dict.fromkeys(images) if len(images) > 1 else ():
            with suppress(ImgError):
                if not full_id(text):
                    named.append((self.wanted(_named(text)), platform))
        self.images.expect(named)


def _named(text: str) -> SourceOp:
    """Return the image that *text* means, as it is written."""
    scheme, elsewhere, rest = text.partition("://")
    if elsewhere:
        return SourceOp(scheme, rest)
    return SourceOp(IMAGE_SCHEME, str(Reference.parse(text).with_default_tag()))
