"""Named build contexts, ``--build-context name=value``, and the sources of what users write (docs/reference/contexts-and-sources.md)."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.images.reference import Reference
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import ImgError, NotFoundError, PluginError, UsageError
from img_core.spec.graph import CONTEXT_SCHEME
from img_core.spec.text import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.plugins import Plugins
    from img_core.spec.source import Source

__all__ = ["Addresses", "NamedContext", "parse_contexts"]

#: What is no path, whoever claims it: ``scheme://…``, ``user@host:…``, and a host with a path.
_ADDRESS = re.compile(r"[A-Za-z0-9+.-]+://|[^/@:]+@[^/@:]+:|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+/")


@dataclass(frozen=True, slots=True)
class NamedContext:
    """One context: *kind* is the scheme of a source (`SourceOp.scheme`), *reference* what it reads."""

    kind: str
    reference: str


class Addresses:
    """Finds the sources of addresses. None is loaded for the path of something that is there."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins

    def tree(self, text: str, *, one_file: bool = False) -> NamedContext | None:
        """Return the source of directory trees (or of *one_file*) that claims *text*; None for a path. Raises PluginError as `any`."""
        return self._find(text, image=False, one_file=one_file)

    def any(self, text: str) -> NamedContext | None:
        """Return the source of trees or images that claims *text*; None if it is a path.

        Raises PluginError for an address that nobody takes while sources are switched off or broken.
        """
        return self._find(text, image=True, one_file=False)

    def _find(self, text: str, *, image: bool, one_file: bool) -> NamedContext | None:
        if ":" not in text and os.path.lexists(text):
            return None
        reasons = self._plugins.switched_off("source")
        for name in self._names(text):
            try:
                driver: type[Source] = self._plugins.driver("source", name)
            except PluginError as err:
                reasons.append(err.message)
                continue
            reference = driver.claims(text)
            if reference is not None:
                return NamedContext(name, reference) if _fits(driver, image=image, one_file=one_file) else None
        if reasons and _ADDRESS.match(text):
            raise PluginError(f"no source takes `{redacted(fs.show(text))}`: {'; '.join(reasons)}")
        return None

    def _names(self, text: str) -> list[str]:
        """Return the sources that may claim *text*: those that are installed, and the program that is called like its scheme."""
        names, (scheme, separator, _) = self._plugins.names("source"), text.partition("://")
        return [*names, scheme] if separator and scheme not in names and self._plugins.has("source", scheme) else names


def _fits(driver: type[Source], *, image: bool, one_file: bool) -> bool:
    return (image or not driver.makes_image) and (driver.names_files or not one_file)


def parse_contexts(given: Mapping[str, str], addresses: Addresses) -> dict[str, NamedContext]:
    """Return the contexts by their normalised names. Raises UsageError, NotFoundError for a directory that does not exist."""
    return {_key(name): _parse(name, value, addresses) for name, value in given.items()}


def _key(name: str) -> str:
    base, separator, platform = name.partition("::")
    try:
        base = Reference.parse(base).familiar().removesuffix(":latest")
    except ImgError:
        pass  # not an image name, so it only ever names a stage or a ``--from``
    return base + separator + platform


def _parse(name: str, value: str, addresses: Addresses) -> NamedContext:
    found = addresses.any(value)
    if found:
        return found
    scheme, separator, _ = value.partition("://")
    if separator:
        raise UsageError(f"unsupported context source {fs.show(scheme)} for {fs.show(name)}")
    if not os.path.isdir(value):
        raise NotFoundError(f"build context `{fs.show(name)}`: no such directory: `{fs.show(value)}`")
    return NamedContext(CONTEXT_SCHEME, os.path.abspath(value))
