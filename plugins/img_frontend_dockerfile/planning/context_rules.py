"""Lint rules about what is in build contexts: ``CopyIgnoredFile``, and ``CopyMissingFile`` when nothing is built."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from img_core.files.ignore import IgnoreMatcher, parse_ignore_file
from img_core.spec.errors import ImgError
from img_core.spec.graph import SourceOp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from img_core.spec.graph import Vertex
    from img_frontend_dockerfile.planning.stage import StageBuilder
    from img_frontend_dockerfile.syntax import instructions as ins

__all__ = ["lint_missing", "lint_sources"]

_EVERYTHING = ("*", "**", "**/*")


def lint_sources(builder: StageBuilder, instruction: ins.Copy, origin: Vertex | None, paths: Iterable[str]) -> None:
    """Warn about each of *paths* (absolute) that COPY or ADD will not find in the context *origin*."""
    matcher = _ignore_rules(builder) if instruction.source_stage is None else None
    command = "Add" if instruction.add else "Copy"
    for path in paths:
        relative = path.strip("/")
        if matcher is not None and (matcher.excludes(relative) if relative else _hides_all(matcher)):
            message = f'Attempting to {command} file "{relative or "."}" that is excluded by .dockerignore'
            builder.warn("CopyIgnoredFile", message)
        else:
            lint_missing(builder, origin, path, parents=instruction.parents)


def lint_missing(builder: StageBuilder, origin: Vertex | None, path: str, *, parents: bool = False) -> None:
    """Warn if *path* is not in the local context *origin*. In a build, the step says so itself."""
    shared = builder.shared
    if shared.checking and origin is not None and isinstance(origin.op, SourceOp) and origin.op.scheme == "local":
        reason = shared.resolver.why_missing(origin.op, path, parents=parents)
        if reason is not None:
            builder.warn("CopyMissingFile", reason)


def _hides_all(matcher: IgnoreMatcher) -> bool:
    """Tell whether nothing is left for a copy of the whole context."""
    return any(rule.pattern in _EVERYTHING for rule in matcher.rules)


def _ignore_rules(builder: StageBuilder) -> IgnoreMatcher | None:
    try:
        text = builder.shared.resolver.ignore_file()
        return _matcher(text) if text else None
    except ImgError:
        return None  # a bad ignore file is an error of the step that reads the context


@lru_cache(maxsize=1)  # the same file for each COPY of a build
def _matcher(text: str) -> IgnoreMatcher | None:
    """Return what matches, or None if a ``!`` may bring things back: then the rule would guess, as in BuildKit."""
    rules = parse_ignore_file(text)
    return None if any(rule.negated for rule in rules) else IgnoreMatcher(rules)
