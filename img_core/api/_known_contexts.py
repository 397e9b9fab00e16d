"""What a frontend may ask about the contents of build contexts, answered from the sources of one build."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from img_core.spec.errors import ImgError
from img_core.spec.graph import CONTEXT_SCHEME, SourceOp

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.api._main_context import MainContext

__all__ = ["KnownContexts"]

_MAIN = SourceOp(CONTEXT_SCHEME, "context")


class KnownContexts:
    """What a `Resolver` asks for (solver.images.ContextFacts). *sources* gives the source of a scheme."""

    def __init__(self, main: MainContext, sources: Callable[[str], Any]) -> None:  # Any: an image or a tree source
        self._main = main
        self._sources = sources

    @cached_property
    def ignore_text(self) -> str | None:
        """The text of the main context's ignore file."""
        ignore: str | None = self._sources(CONTEXT_SCHEME).pin(_MAIN, None).ignore
        return ignore

    def source_time(self, op: SourceOp) -> int | None:
        """Return when the tree behind *op* was made, if its origin tells."""
        if op == _MAIN:
            return self._main.modified()
        source = self._sources(op.scheme)
        seconds: int | None = source.modified(source.pin(op, None))
        return seconds

    def why_missing(self, op: SourceOp, path: str, *, parents: bool) -> str | None:
        """Say why COPY of *path* from the local context *op* would find nothing; None if it may find something."""
        from img_core.files import copy
        from img_core.files.ignore import IgnoreMatcher

        pinned = self._sources(op.scheme).pin(op, None)
        if pinned.directory is None:
            return None
        descriptor = os.open(pinned.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            text, name = pinned.ignore, pinned.ignore_name
            ignore = IgnoreMatcher.from_file(text, name) if text is not None else None
            tree = copy.SourceTree(descriptor, ignore=ignore, ignore_name=name)
            copy.check_source(tree, path, parents=parents)
        except ImgError as err:
            return f"{err.message} ({err.hint})" if err.hint else err.message
        finally:
            os.close(descriptor)
        return None
