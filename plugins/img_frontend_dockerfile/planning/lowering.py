"""From stages to vertices: what each stage starts from, and every instruction in order."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from img_core.images.reference import full_id
from img_core.spec.errors import ImgError
from img_core.spec.frontend import HistoryEntry, PlannedImage
from img_core.spec.graph import IMAGE_SCHEME, Copy, FileOp, SourceOp, Vertex
from img_frontend_dockerfile.lint.file_rules import lint_stage
from img_frontend_dockerfile.planning import metadata as metadata
from img_frontend_dockerfile.planning.config import StageConfig
from img_frontend_dockerfile.planning.copying import apply_copy
from img_frontend_dockerfile.planning.names import ContextTarget, ImageTarget, NoTarget, StageTarget, Target
from img_frontend_dockerfile.planning.running import apply_run
from img_frontend_dockerfile.planning.stage import Shared, StageBuilder, StageState
from img_frontend_dockerfile.planning.stages import StageGraph
from img_frontend_dockerfile.syntax import instructions as ins
from img_frontend_dockerfile.syntax.budget import MOST_TRIGGERS, check_number
from img_frontend_dockerfile.syntax.expansion import expand_word
from img_frontend_dockerfile.syntax.keywords import build_instruction
from img_frontend_dockerfile.syntax.parser import parse_trigger
from img_frontend_dockerfile.syntax.source import Fault, Span
from img_frontend_dockerfile.syntax.text import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from img_core.spec.frontend import BaseImage
    from img_core.spec.values import Platform
    from img_frontend_dockerfile.syntax.program import Stage

__all__ = ["Lowering"]

# Any: each function takes exactly the instruction type that stands beside it.
_APPLY: dict[type[ins.Instruction], Callable[[StageBuilder, Any], None]] = {
    ins.Arg: metadata.apply_arg,
    ins.Cmd: metadata.apply_cmd,
    ins.CopyOrAdd: apply_copy,
    ins.Entrypoint: metadata.apply_entrypoint,
    ins.Env: metadata.apply_env,
    ins.Expose: metadata.apply_expose,
    ins.Healthcheck: metadata.apply_healthcheck,
    ins.Label: metadata.apply_label,
    ins.Maintainer: metadata.apply_maintainer,
    ins.OnBuild: metadata.apply_onbuild,
    ins.Run: apply_run,
    ins.Shell: metadata.apply_shell,
    ins.StopSignal: metadata.apply_stopsignal,
    ins.SetUser: metadata.apply_user,
    ins.Volume: metadata.apply_volume,
    ins.Workdir: metadata.apply_workdir,
}
_TRIGGER_ESCAPE = "\\"
_COUNTED = (ins.Run, ins.CopyOrAdd, ins.Workdir)


class Lowering:
    """Plans one image for one platform."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._stages = shared.program.stages
        self.scope = shared.scope
        self.states: dict[int, StageState] = {}  #: what is lowered so far, by stage
        self._graph = StageGraph(shared)

    def bases(self, target: int) -> Iterator[tuple[str, Platform]]:
        """Yield the images that the stages below *target* start from. Raises `DockerfileError` as `image` does."""
        for index in sorted(self._graph.needed(target)):
            stage = self._stages[index]
            if reference := _base_reference(self._graph.base(stage)):
                with suppress(Fault):  # told when the stage is lowered
                    yield reference, self._graph.platform(stage)

    def image(self, target: int) -> PlannedImage:
        """Lower stage *target* and all that it needs. Raises `DockerfileError`, and what the resolver raises."""
        state = self._state(target)
        request = self._shared.request
        return PlannedImage(
            platform=self._shared.platform,
            root=state.root,
            config=state.config.document(self._image_platform(state), request.labels),
            history=tuple(state.history),
            base=state.base,
        )

    def _image_platform(self, state: StageState) -> Platform:
        """Return what the image says it is for; whatever nobody asked for is as in its base."""
        wanted = self._shared.platform
        have = state.base.platform if state.base is not None else wanted
        if not self._shared.request.fixed_platform:
            return have
        if (have.os, have.architecture) != (wanted.os, wanted.architecture):
            return wanted
        return replace(wanted, variant=wanted.variant or have.variant, os_version=wanted.os_version or have.os_version)

    def _state(self, target: int) -> StageState:
        if target not in self.states:
            # Every stage builds on earlier ones only, so file order is a valid order and no recursion is needed.
            for index in sorted(self._graph.needed(target)):
                if index not in self.states:
                    self.states[index] = self._lower(self._stages[index])
        return self.states[target]

    def _lower(self, stage: Stage) -> StageState:
        source = self._shared.program.source
        place = stage.start.span
        try:
            builder, triggers = self._start(stage)
            builder.expect_steps(_count_steps(stage, triggers, counts_from=_is_image(self._graph.base(stage))))
            self._add_base(builder, self._graph.base(stage))
            lint_stage(stage, self._shared.warnings)
            for instruction in triggers:
                self._apply(builder, instruction, triggered=True)
            for instruction in stage.instructions:
                place = instruction.span
                self._apply(builder, instruction, triggered=False)
        except Fault as fault:
            raise source.error(fault, place) from None
        return builder.state

    def _apply(self, builder: StageBuilder, instruction: ins.Instruction, *, triggered: bool) -> None:
        builder.enter(instruction, triggered=triggered)
        _APPLY[type(instruction)](builder, instruction)

    def _start(self, stage: Stage) -> tuple[StageBuilder, list[ins.Instruction]]:
        """Return a builder at the state that FROM gives, and the triggers of the base, which are taken off it."""
        base = self._graph.base(stage)
        state = self._inherited(base.index) if isinstance(base, StageTarget) else self._fresh(stage, base)
        builder = StageBuilder(self._shared, stage, state, self._fetch)
        check_number(len(state.config.on_build), MOST_TRIGGERS, "ONBUILD triggers of the base")
        triggers = [self._trigger(text, stage.start.span) for text in state.config.on_build]
        state.config.on_build = ()
        return builder, triggers

    def _inherited(self, index: int) -> StageState:
        state = self._state(index)
        self._shared.budget.take(state.size)
        return state.child()

    def _trigger(self, text: str, span: Span) -> ins.Instruction:
        """Parse a trigger. Its file may have had another escape character, which nobody wrote down."""
        nodes = parse_trigger(text, span, _TRIGGER_ESCAPE)
        if len(nodes) != 1:
            raise Fault(f"ONBUILD trigger {quote(text)} of the base is not one instruction")
        try:
            instruction = build_instruction(nodes[0], _TRIGGER_ESCAPE)
        except Fault as fault:  # the line of FROM is not where the mistake is written
            raise Fault(fault.message, hint=f"this is the ONBUILD trigger {quote(text)} of the base") from None
        if isinstance(instruction, ins.From | ins.OnBuild | ins.Maintainer):
            raise Fault(f"{nodes[0].name} isn't allowed as an ONBUILD trigger")
        return instruction

    def _fresh(self, stage: Stage, base: Target) -> StageState:
        platform = self._graph.platform(stage)
        reference = _base_reference(base)
        try:
            image = self._shared.resolver.base_image(reference, platform) if reference else None
        except ImgError as err:  # an image that is missing, or a registry that fails: show which FROM wanted it
            err.excerpt = err.excerpt or self._shared.program.source.excerpt(stage.start.span)
            err.hint = (base.hint if isinstance(base, ImageTarget) else "") or err.hint
            raise
        if image is None:
            config = StageConfig.scratch()
            return StageState(platform, config, dict(config.env))
        self._compare_platforms(stage, image, platform)
        config = StageConfig.from_document(image.config)
        return StageState(platform, config, dict(config.env), base=image, history=_base_history(image))

    def _compare_platforms(self, stage: Stage, image: BaseImage, platform: Platform) -> None:
        have = image.platform
        if (have.os, have.architecture) != (platform.os, platform.architecture):
            name = expand_word(stage.start.base, self.scope.values, escape=self._shared.program.escape)
            text = f"Base image {name} was pulled with platform {quote(str(have))}, "
            text += f"expected {quote(str(platform))} for current build"
            self._shared.warnings.add("InvalidBaseImagePlatform", text, stage.start.node)

    def _add_base(self, builder: StageBuilder, base: Target) -> None:
        """Make the vertex of FROM; a tree as base becomes a layer."""
        state = builder.state
        if isinstance(base, StageTarget) or base == NoTarget():
            return
        if state.base is not None:
            text = f"FROM {state.base.reference}"
            text += "" if "@" in state.base.reference or full_id(state.base.reference) else f"@{state.base.digest}"
            op = SourceOp(IMAGE_SCHEME, state.base.reference)
            if isinstance(base, ContextTarget) and base.kind != IMAGE_SCHEME:
                op = SourceOp(base.kind, base.value)
            state.root = builder.vertex(op, (), text, platform=state.platform)
        elif isinstance(base, ContextTarget) and base.value != "scratch":
            tree = self._fetch(base, builder)
            action = Copy(input=0, sources=("/",), destination="/")
            inputs = [tree] if tree is not None else []
            state.root = builder.vertex(FileOp((action,), has_base=False), inputs, f"FROM {base.name}")
            builder.commit(f"FROM {base.name}", state.root)

    def _fetch(self, target: Target, builder: StageBuilder) -> Vertex | None:
        """Return the files behind a name in ``--from``."""
        if isinstance(target, StageTarget):
            return self._stage_root(target.index, builder)
        if isinstance(target, NoTarget):
            return None
        if isinstance(target, ImageTarget):
            return _image_vertex(builder, target.reference, target.hint)
        if target.kind == IMAGE_SCHEME:
            return None if target.value == "scratch" else _image_vertex(builder, target.value)
        platform = builder.state.platform if target.is_image else None
        op = SourceOp(target.kind, target.value)
        return builder.vertex(op, (), f"[context {target.name}] load", platform=platform, numbered=False)

    def _stage_root(self, index: int, builder: StageBuilder) -> Vertex | None:
        current = builder.stage.index
        if index == current:  # only triggers get here; the graph has seen everything else
            raise Fault(f"circular dependency detected on stage: {builder.stage.name}")
        if index > current:
            raise self._graph.forward(index, current)
        return self._state(index).root


def _base_reference(base: Target) -> str:
    """Return what the resolver knows the image *base* by, empty if it is none."""
    if isinstance(base, ImageTarget):
        return base.reference
    return base.image if isinstance(base, ContextTarget) else ""


def _image_vertex(builder: StageBuilder, reference: str, hint: str = "") -> Vertex:
    op, platform = SourceOp(IMAGE_SCHEME, reference), builder.state.platform
    return builder.vertex(op, (), f"FROM {reference}", platform=platform, numbered=False, hint=hint)


def _base_history(image: BaseImage) -> list[HistoryEntry]:
    entries = image.config.get("history")
    if not isinstance(entries, list | tuple):
        return []
    return [HistoryEntry(document=entry) for entry in entries if isinstance(entry, Mapping)]


def _is_image(base: Target) -> bool:
    return not isinstance(base, StageTarget | NoTarget)


def _count_steps(stage: Stage, triggers: list[ins.Instruction], *, counts_from: bool) -> int:
    return counts_from + sum(isinstance(item, _COUNTED) for item in (*triggers, *stage.instructions))
