"""Questions about a build that was *prepared*; they build nothing."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, TypeVar

from img_core.images import platforms
from img_core.spec.errors import UsageError
from img_core.spec.graph import SourceOp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from img_core.api._preparation import Preparation
    from img_core.forms.lock import Lock
    from img_core.spec.frontend import BuildWarning, Frontend, PlanRequest, Resolver
    from img_core.spec.source import TreeSource

__all__ = ["check", "handed_out", "lock", "outline", "targets"]

_Answer = TypeVar("_Answer")


def check(prepared: Preparation) -> tuple[BuildWarning, ...]:
    """Return all findings about the build definition. Raises ImgError."""
    return _asked(prepared, lambda frontend, planned, resolver: frontend.check(planned, resolver))


def outline(prepared: Preparation) -> Mapping[str, Any]:  # Any: JSON
    """Return what the target takes from outside (`Frontend.outline`). Raises ImgError."""
    return _asked(prepared, lambda frontend, planned, resolver: frontend.outline(planned, resolver))


def _asked(prepared: Preparation, ask: Callable[[Frontend, PlanRequest, Resolver], _Answer]) -> _Answer:
    context, _, resolver = prepared.prepare()
    planned = prepared.plan_request(context.definition)
    with prepared.planning(planned) as frontend:
        return ask(frontend, planned, prepared.cancellation.undisturbed(resolver))


def targets(prepared: Preparation) -> Mapping[str, Any]:  # Any: JSON
    """Return what can be built (`Frontend.targets`). Raises ImgError."""
    planned = prepared.plan_request(prepared.context().definition)
    with prepared.planning(planned) as frontend:
        return frontend.targets(planned)


def lock(prepared: Preparation) -> Lock:
    """Return which exact images, files and repositories the target takes from outside. Raises ImgError."""
    from img_core.forms.lock import Lock, identifier, lock_path
    from img_core.images.reference import full_id

    context, sources, resolver = prepared.prepare()
    plan, _ = prepared.plan(context.definition, resolver)
    found: dict[str, str] = {}
    for vertex in plan.vertices():
        if not isinstance(vertex.op, SourceOp) or full_id(vertex.op.reference):  # an id is as exact as a digest
            continue
        prepared.cancellation.check()
        op, driver = resolver.wanted(vertex.op), prepared.source_driver(vertex.op.scheme)
        if not driver.is_remote:
            continue
        if driver.makes_image:
            image = resolver.resolve(vertex.op.reference, vertex.platform or platforms.host_platform())
            found[identifier(op)] = image.top
        else:
            source: TreeSource = sources(op.scheme)
            found[identifier(op)] = source.pin_of(source.pin(op, vertex.platform))
    return Lock(found, lock_path(context.definition.path))


def handed_out(*builds: Preparation) -> list[str]:
    """Return in lines what the engine would be given now for *builds*. Raises ImgError."""
    from img_core.api._planned import planned
    from img_core.api._sharing import Sharing

    lines: list[str] = []
    while builds:
        with ExitStack() as opened:
            prepared = builds[0]
            engine = prepared.engine(opened)
            if engine is None:
                raise UsageError("no engine was named")
            found = planned(builds)
            drivers = prepared.drivers(found.sources, prepared.request.network)
            with closing(Sharing(prepared, engine, drivers, found)) as shared:
                lines += engine.preview(shared)
        builds = tuple(build for number, build in enumerate(builds) if number not in found.numbers)
    return lines
