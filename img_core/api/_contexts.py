"""Named build contexts: ``--build-context name=value`` (docs/reference/contexts-and-sources.md)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.images.reference import Reference
from img_core.net.git_urls import is_git, is_web
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import ImgError, NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NamedContext", "is_remote", "parse_contexts"]


@dataclass(frozen=True, slots=True)
class NamedContext:
    """One named context: *kind* is the scheme of a source (``local``, ``docker-image``, ``git``…), *reference* what it reads."""

    kind: str
    reference: str


def parse_contexts(given: Mapping[str, str]) -> dict[str, NamedContext]:
    """Return the contexts by their normalised names. Raises UsageError, NotFoundError for a directory that does not exist."""
    return {_key(name): _parse(name, value) for name, value in given.items()}


def is_remote(context: str) -> str | None:
    """Return the scheme of the source behind a context given as a URL (``git`` or ``https``), or None for a path."""
    if is_git(context) or (context.startswith("github.com/") and not os.path.isdir(context)):
        return "git"
    return "https" if is_web(context) else None


def _key(name: str) -> str:
    base, separator, platform = name.partition("::")
    try:
        base = Reference.parse(base).familiar().removesuffix(":latest")
    except ImgError:
        pass  # not an image name, so it only ever names a stage or a ``--from``
    return base + separator + platform


def _parse(name: str, value: str) -> NamedContext:
    scheme, separator, rest = value.partition("://")
    if separator and scheme == "docker-image":
        return NamedContext(scheme, rest)
    if separator and scheme == "oci-layout":
        return NamedContext(scheme, os.path.abspath(rest))
    remote = is_remote(value)
    if remote:
        return NamedContext(remote, value)
    if separator:
        raise UsageError(f"unsupported context source {fs.show(scheme)} for {fs.show(name)}")
    if not os.path.isdir(value):
        raise NotFoundError(f"build context `{fs.show(name)}`: no such directory: `{fs.show(value)}`")
    return NamedContext("local", os.path.abspath(value))
