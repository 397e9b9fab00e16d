"""What the listeners of a build are told of it, and what they have to say: what they add to a RUN step enters what that step is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from img_core.api._preparation import Preparation
    from img_core.plugins import ListenerFailure, Telling
    from img_core.solver.result import BuildOutcome
    from img_core.solver.stacks import Layer
    from img_core.spec.exporter import Exporter
    from img_core.spec.frontend import Plan
    from img_core.spec.values import Descriptor

__all__ = ["amended", "announced", "attested", "committed"]


def amended(prepared: Preparation, plan: Plan) -> Plan:
    """Return *plan* with what listeners add to each of its RUN steps, once. Raises PluginError for what cannot be.

    A step that nothing is added to, on a base to which nothing was, is the same vertex as before.
    """
    hook = prepared.session.plugins.listeners().img_run_planned
    if not hook.get_hookimpls():
        return plan
    from img_core.forms.additions import with_additions  # for who has listeners that add something

    return with_additions(plan, lambda vertex: hook(vertex=vertex))


def announced(prepared: Preparation, plan: Plan) -> Telling:
    """Let listeners see *plan*; return what tells them of all that follows."""
    from img_core.plugins import Telling

    failed: set[str] = set()

    def report(failure: ListenerFailure) -> None:
        if failure.listener not in failed:  # once: each is told of every event and every step
            failed.add(failure.listener)
            prepared.session.notice(failure.message)

    for warning in plan.warnings:
        prepared.events.warn(warning)
    hooks = prepared.session.plugins.listeners()
    hooks.img_build_planned(plan=plan)
    telling = Telling(hooks, report, prepared.session.notice)
    if telling.hears("img_event"):
        prepared.events.listen(lambda event: telling.tell("img_event", event=event))
    for vertex in plan.vertices():
        prepared.events.planned(vertex.digest, vertex.name, tuple(item.digest for item in vertex.inputs))
    return telling


def committed(
    plan: Plan, telling: Telling, hears: Sequence[Callable[[Layer, Descriptor], None]]
) -> dict[str, Callable[[Layer, Descriptor], None]]:
    """Return what tells of layers of *plan*, as fields of a scope: to those in *hears*, and to listeners; nothing if none wants to hear."""
    steps = {vertex.digest: vertex for vertex in plan.vertices()}

    def tell(layer: Layer, blob: Descriptor) -> None:
        telling.tell("img_layer_committed", vertex=steps[layer.step], descriptor=blob, diff_id=layer.diff_id)

    every = [*hears, tell] if telling.hears("img_layer_committed") else hears

    def packed(layer: Layer, blob: Descriptor) -> None:
        for hear in every:
            hear(layer, blob)

    return {"packed": packed} if every else {}


def attested(prepared: Preparation, outcome: BuildOutcome, exporters: Sequence[Exporter]) -> BuildOutcome:
    """Return *outcome* with what listeners state about its images."""
    hook = prepared.session.plugins.listeners().img_image_built
    if not hook.get_hookimpls():
        return outcome
    told = [hook(image=image, names=tuple(outcome.names)) for image in outcome.wanted_by(exporters[0]).images]
    images = [
        replace(image, attestations=tuple(item for answer in answers for item in answer))
        for image, answers in zip(outcome.images, told, strict=True)
    ]
    return replace(outcome, images=images)
