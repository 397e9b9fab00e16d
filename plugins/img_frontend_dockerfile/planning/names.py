"""What the names in FROM, ``COPY --from`` and ``RUN --mount=from`` mean: a stage, a named context, an image, nothing."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from img_core.images import platforms
from img_core.images.reference import InvalidReference, Reference, full_id
from img_core.spec.dataclass import dataclass
from img_core.spec.graph import CONTEXT_SCHEME, IMAGE_SCHEME
from img_frontend_dockerfile.syntax.source import Fault
from img_frontend_dockerfile.syntax.text import nearest, quote

if TYPE_CHECKING:
    from img_core.spec.frontend import Resolver
    from img_core.spec.values import Platform
    from img_frontend_dockerfile.syntax.program import Stage

__all__ = ["ContextTarget", "ImageTarget", "NoTarget", "StageNames", "StageTarget", "Target", "parse_platform"]

_MAIN_CONTEXT = "context"
_SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class StageTarget:
    """A stage of this file, by index."""

    index: int


@dataclass(frozen=True, slots=True)
class ContextTarget:
    """A named build context: what the source of the scheme *kind* means by *value* (of a directory: its name)."""

    name: str
    kind: str
    value: str
    is_image: bool = False

    @property
    def image(self) -> str:
        """What the resolver knows it by as an image, empty if it is none."""
        if not self.is_image or self.value == _SCRATCH:
            return ""
        return self.value if self.kind == IMAGE_SCHEME else f"{self.kind}://{self.value}"


@dataclass(frozen=True, slots=True)
class ImageTarget:
    """An image, normalised and with its tag. *hint* helps if there is none of that name."""

    reference: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class NoTarget:
    """``scratch``: an empty root."""


Target = StageTarget | ContextTarget | ImageTarget | NoTarget


def parse_platform(text: str, *, prefix: str) -> Platform:
    """Parse a platform specifier; raise `Fault` with *prefix*."""
    try:
        return platforms.parse(text, prefix=prefix)
    except platforms.InvalidPlatform as err:
        raise Fault(err.message) from None


class StageNames:
    """Looks names up in the stages of one file and among the contexts that the caller knows."""

    def __init__(self, stages: tuple[Stage, ...], resolver: Resolver, platform: Platform) -> None:
        self._stages = stages
        self._resolver = resolver
        self._platform = platform
        self._by_name: dict[str, list[int]] = {}
        for stage in stages:
            if stage.start.name:
                self._by_name.setdefault(stage.start.name, []).append(stage.index)
        self._contexts: dict[str, ContextTarget | None] = {}

    def base(self, name: str, current: int) -> Target:
        """Say what ``FROM name`` in stage *current* builds on. Raises `Fault` for what is no image reference."""
        return self._context_or_earlier(name, current) or self._nothing_or_image(name)

    def source(self, name: str, current: int) -> Target:
        """Say what ``--from=name`` in stage *current* reads; a stage may also be the current or a later one."""
        if name.isascii() and name.isdigit():
            index = int(name[:9])
            if index >= len(self._stages):
                raise Fault(
                    f"invalid stage index {name}", hint=f"this file has the stages 0 to {len(self._stages) - 1}"
                )
            return StageTarget(index)
        found = self._context_or_earlier(name, current)
        if found is None and (later := self._by_name.get(name.lower())):
            return StageTarget(later[0])
        return found or self._nothing_or_image(name)

    def _context_or_earlier(self, name: str, current: int) -> Target | None:
        """Return the named context or the earlier stage that *name* means, or None."""
        context = None if name == _SCRATCH else self._context(name)
        if context is not None:
            return context
        earlier = self._before(name, current)
        return StageTarget(earlier) if earlier is not None else None

    def _nothing_or_image(self, name: str) -> Target:
        return NoTarget() if name == _SCRATCH else self._image(name)

    def known(self, name: str) -> Target | None:
        """Return the named context or the last stage called *name*; None if there is neither."""
        stages = self._by_name.get(name.lower())
        return self._context(name) or (StageTarget(stages[-1]) if stages else None)

    def _before(self, name: str, current: int) -> int | None:
        found = self._by_name.get(name.lower(), [])
        place = bisect_left(found, current)
        return found[place - 1] if place else None

    def _image(self, name: str) -> Target:
        if identifier := full_id(name):
            return ImageTarget(identifier, "")
        try:
            reference = Reference.parse(name, prefix=f"failed to parse stage name {quote(name)}: ")
        except InvalidReference as err:
            raise Fault(err.message, hint=err.hint) from None
        familiar = reference.familiar().removesuffix(":latest")
        context = self._context(familiar) if familiar != name else None
        near = nearest(name, self._by_name)
        hint = f"did you mean the stage `{near}`?" if near else ""
        return context or ImageTarget(str(reference.with_default_tag()), hint)

    def _context(self, name: str) -> ContextTarget | None:
        if name == _MAIN_CONTEXT:
            return None
        if name not in self._contexts:
            self._contexts[name] = self._look_up(name)
        return self._contexts[name]

    def _look_up(self, name: str) -> ContextTarget | None:
        for key in (f"{name}::{self._platform}", name):
            kind = self._resolver.context_kind(key)
            if kind == CONTEXT_SCHEME:
                return ContextTarget(key, kind, key)
            if kind is not None:
                value = self._resolver.context_reference(key)
                value = _image_name(key, value) if kind == IMAGE_SCHEME else value
                return ContextTarget(key, kind, value, self._resolver.context_is_image(key))
        return None


def _image_name(key: str, value: str) -> str:
    if value == _SCRATCH or full_id(value):
        return full_id(value) or value
    try:
        return str(Reference.parse(value, prefix=f"invalid context specifier for {key}: ").with_default_tag())
    except InvalidReference as err:
        raise Fault(err.message, hint=err.hint) from None
