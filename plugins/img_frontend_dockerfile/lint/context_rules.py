"""Lint rules about what is in build contexts: ``CopyIgnoredFile``, and ``CopyMissingFile`` when nothing is built."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from img_core.files.ignore import IgnoreMatcher, parse_ignore_file
from img_core.spec.errors import ImgError
from img_core.spec.graph import CONTEXT_SCHEME, SourceOp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from img_core.spec.frontend import Resolver
    from img_core.spec.graph import Vertex
    from img_frontend_dockerfile.syntax import instructions as ins

__all__ = ["ContextRules"]

_EVERYTHING = ("*", "**", "**/*")


@dataclass(frozen=True, slots=True)
class ContextRules:
    """The rules for one instruction. *warn* takes a rule's name and a message; *checking*: nothing will be built."""

    resolver: Resolver
    warn: Callable[[str, str], None]
    checking: bool

    def sources(self, instruction: ins.CopyOrAdd, origin: Vertex | None, paths: Iterable[str]) -> None:
        """Warn about each of *paths* (absolute) that COPY or ADD will not find in the context *origin*."""
        matcher = _ignore_rules(self.resolver) if instruction.source_stage is None else None
        command = "Add" if instruction.add else "Copy"
        for path in paths:
            relative = path.strip("/")
            if matcher is not None and (matcher.excludes(relative) if relative else _hides_all(matcher)):
                message = f'Attempting to {command} file "{relative or "."}" that is excluded by .dockerignore'
                self.warn("CopyIgnoredFile", message)
            else:
                self.missing(origin, path, parents=instruction.parents)

    def missing(self, origin: Vertex | None, path: str, *, parents: bool = False) -> None:
        """Warn if *path* is not in the local context *origin*. In a build, the step says so itself."""
        if (
            self.checking
            and origin is not None
            and isinstance(origin.op, SourceOp)
            and origin.op.scheme == CONTEXT_SCHEME
        ):
            reason = self.resolver.why_missing(origin.op, path, parents=parents)
            if reason is not None:
                self.warn("CopyMissingFile", reason)


def _hides_all(matcher: IgnoreMatcher) -> bool:
    """Tell whether nothing is left for a copy of the whole context."""
    return any(rule.pattern in _EVERYTHING for rule in matcher.rules)


def _ignore_rules(resolver: Resolver) -> IgnoreMatcher | None:
    try:
        text = resolver.ignore_file()
        return _matcher(text) if text else None
    except ImgError:
        return None  # a bad ignore file is an error of the step that reads the context


@lru_cache(maxsize=1)  # the same file for each COPY of a build
def _matcher(text: str) -> IgnoreMatcher | None:
    """Return what matches, or None if a ``!`` may bring things back: then the rule would guess, as in BuildKit."""
    rules = parse_ignore_file(text)
    return None if any(rule.negated for rule in rules) else IgnoreMatcher(rules)
