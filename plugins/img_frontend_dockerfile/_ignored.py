"""The lint rule ``CopyIgnoredFile``: COPY and ADD of what the ignore file hides, told before the step fails."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from img_core.kit.ignore import IgnoreMatcher, parse_ignore_file
from img_core.spec.errors import ImgError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from img_frontend_dockerfile import _instructions as ins
    from img_frontend_dockerfile._stage import StageBuilder

__all__ = ["lint_ignored"]


def lint_ignored(builder: StageBuilder, instruction: ins.Copy, paths: Iterable[str]) -> None:
    """Warn about each of *paths* (absolute, in the main context) that the ignore file excludes."""
    try:
        text = builder.shared.resolver.ignore_file()
        matcher = _matcher(text) if text else None
    except ImgError:
        return  # a bad ignore file is an error of the step that reads the context
    if matcher is None:
        return
    command = "Add" if instruction.add else "Copy"
    for path in paths:
        relative = path.strip("/")
        if relative and matcher.excludes(relative):
            message = f'Attempting to {command} file "{relative}" that is excluded by .dockerignore'
            builder.shared.warnings.add("CopyIgnoredFile", message, instruction.node)


@lru_cache(maxsize=1)  # the same file for each COPY of a build
def _matcher(text: str) -> IgnoreMatcher | None:
    """Return what matches, or None if a ``!`` may bring things back: then the rule would guess, as in BuildKit."""
    rules = parse_ignore_file(text)
    return None if any(rule.negated for rule in rules) else IgnoreMatcher(rules)
