"""What is done once for all platforms of a request: global arguments, lint rules of the whole file, the target, the epoch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from img_core.forms.words import truth
from img_core.spec.errors import DockerfileError
from img_core.spec.text import show
from img_frontend_dockerfile.lint.file_rules import lint_base_defaults, lint_program
from img_frontend_dockerfile.lint.findings import WarningList
from img_frontend_dockerfile.planning.epoch import EPOCH, epoch_of, settle_epoch
from img_frontend_dockerfile.planning.lowering import Lowering
from img_frontend_dockerfile.planning.names import StageNames
from img_frontend_dockerfile.planning.stage import Shared
from img_frontend_dockerfile.syntax.budget import FILE_LIMIT, Budget
from img_frontend_dockerfile.syntax.directives import CheckOptions, parse_check_options
from img_frontend_dockerfile.syntax.instructions import Arg
from img_frontend_dockerfile.syntax.scope import BUILDER_ARGUMENTS, GlobalScope, platform_arguments
from img_frontend_dockerfile.syntax.source import Fault
from img_frontend_dockerfile.syntax.text import did_you_mean, quote
from img_frontend_dockerfile.syntax.wanted import parse_request

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from img_core.spec.frontend import BuildWarning, PlanRequest, Resolver
    from img_core.spec.values import Platform
    from img_frontend_dockerfile.syntax.program import Program

__all__ = ["Planning", "find_target", "wants_index"]


class Planning:
    """One request. *checking*: nothing will be built, so say what steps would find out. Raises DockerfileError."""

    def __init__(self, request: PlanRequest, resolver: Resolver, *, checking: bool = False) -> None:
        self._checking = checking
        self.request = request
        self.program = parse_request(request)
        self.target = find_target(self.program, request.target)
        self.epoch: int | None = None
        override = request.build_args.get("BUILDKIT_DOCKERFILE_CHECK")
        checks = _parse_checks(override) if override else self.program.document.directives.check
        self._warnings = WarningList(self.program.source, checks)
        self._resolver = resolver
        self._declared: set[str] = set()
        self._budget = Budget(FILE_LIMIT, "the expanded file has")
        lint_program(self.program, self._warnings)
        self._find_epoch()

    def _find_epoch(self) -> None:
        """Ask what `SOURCE_DATE_EPOCH` names, and let everything after this see the number."""
        shared = self._shared(self.request.platforms[0])
        self.epoch = epoch_of(shared, lambda stage: Lowering(shared).image(stage).root)
        given = dict(self.request.build_args)
        if not given.get(EPOCH):  # an empty one asks for no epoch, whatever ARG says
            given.pop(EPOCH, None)
        self.request = replace(self.request, build_args=settle_epoch(given, self.epoch))

    def lowerings(self, targets: Iterable[int]) -> list[Lowering]:
        """Return one for each platform, in the order of the request; tell the resolver which images *targets* will need."""
        made = [self._lowering(platform) for platform in self.request.platforms]
        self._resolver.expect([base for lowering in made for target in targets for base in lowering.bases(target)])
        return made

    def _lowering(self, platform: Platform) -> Lowering:
        shared = self._shared(platform)
        shared.scope.values = settle_epoch(shared.scope.values, self.epoch)
        self._declared |= shared.scope.declared
        return Lowering(shared)

    def _shared(self, platform: Platform) -> Shared:
        scope = _global_scope(self.program, self.request, platform, self._warnings, self._budget)
        names = StageNames(self.program.stages, self._resolver, platform)
        return Shared(
            program=self.program,
            request=self.request,
            resolver=self._resolver,
            platform=platform,
            names=names,
            scope=scope,
            warnings=self._warnings,
            arguments=self._declared,
            budget=self._budget,
            epoch=self.epoch,
            checking=self._checking,
        )

    def finish(self) -> tuple[BuildWarning, ...]:
        """Return the findings. Raises DockerfileError if the file wants findings to be errors."""
        _warn_unused_arguments(self.program, self.request, self._declared, self._warnings)
        self._warnings.raise_if_asked()
        return self._warnings.result()


def wants_index(request: PlanRequest) -> bool:
    """Say whether the result must be an index (`BUILDKIT_MULTI_PLATFORM`). Raises DockerfileError if it must be none and has to be."""
    name = "BUILDKIT_MULTI_PLATFORM"
    text = request.build_args.get(name, "")
    wanted = truth(text or "false")
    if wanted is None:
        raise DockerfileError(f"invalid boolean value {quote(text)} of {name}")
    if text and not wanted and len(request.platforms) > 1:
        raise DockerfileError(f"returning several platforms is not allowed by {name}={show(text)}")
    return wanted


def _parse_checks(text: str) -> CheckOptions:
    try:
        return parse_check_options(text)
    except Fault as fault:
        raise DockerfileError(fault.message, hint=fault.hint) from None


def _global_scope(
    program: Program, request: PlanRequest, platform: Platform, warnings: WarningList, budget: Budget
) -> GlobalScope:
    """Evaluate the ARGs before the first FROM, with build arguments and, for a lint rule, without."""
    stage = request.target or program.stages[-1].start.name
    predefined = platform_arguments(platform, request.build_platform, stage)
    given = {name: value for name, value in request.build_args.items() if name in predefined}
    scope = GlobalScope(request.build_args, {**predefined, **given}, budget)
    _declare(program, scope)
    defaults = GlobalScope({}, dict(predefined), budget)
    if any("$" in stage.start.base for stage in program.stages):
        try:
            _declare(program, defaults)
        except DockerfileError:
            pass  # a default that only works with its build argument, e.g. ${X:?}
        lint_base_defaults(program, defaults, warnings)
    return scope


def _declare(program: Program, scope: GlobalScope) -> None:
    for instruction in program.arguments:
        try:
            scope.declare(instruction, program.escape)
        except Fault as fault:
            raise program.source.error(fault, instruction.span) from None


def find_target(program: Program, target: str) -> int:
    """Return the index of the stage called *target*, of the last one without. Raises DockerfileError."""
    if not target:
        return len(program.stages) - 1
    named = {stage.start.name: stage.index for stage in program.stages if stage.start.name}
    if target.lower() in named:
        return named[target.lower()]
    raise DockerfileError(
        f"target stage {quote(target)} could not be found{did_you_mean(target.lower(), named)}",
        hint=f"stages with a name: {', '.join(named)}" if named else "no stage has a name (`FROM … AS name`)",
    )


def _warn_unused_arguments(program: Program, request: PlanRequest, declared: set[str], warnings: WarningList) -> None:
    predefined = platform_arguments(request.build_platform, request.build_platform, "")
    written = {name for item in program.instructions() if isinstance(item, Arg) for name, _ in item.pairs}
    known: Mapping[str, None] = dict.fromkeys(sorted(declared | written | predefined.keys()))
    for name in request.build_args:
        if name not in known and name not in BUILDER_ARGUMENTS:
            suggestion = did_you_mean(name, known)
            warnings.add("", f"build argument `{name}` is not declared by any ARG instruction{suggestion}")
