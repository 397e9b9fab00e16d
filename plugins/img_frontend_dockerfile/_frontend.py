"""The Dockerfile frontend: parse, check, and plan one image per platform."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.kit.text import show
from img_core.spec.errors import DockerfileError
from img_core.spec.frontend import Frontend, Plan, PlanRequest
from img_frontend_dockerfile._calls import describe_targets, outline
from img_frontend_dockerfile._directives import CheckOptions, detect_syntax, parse_check_options
from img_frontend_dockerfile._epoch import epoch_of, settle_epoch
from img_frontend_dockerfile._instructions import Arg
from img_frontend_dockerfile._lint import lint_base_defaults, lint_program
from img_frontend_dockerfile._lowering import Lowering
from img_frontend_dockerfile._names import Names
from img_frontend_dockerfile._program import Program, parse_program
from img_frontend_dockerfile._scope import BUILDER_ARGUMENTS, GlobalScope, platform_arguments
from img_frontend_dockerfile._source import Fault, Source, Span
from img_frontend_dockerfile._stage import Shared
from img_frontend_dockerfile._text import did_you_mean, quote, undefined_variable
from img_frontend_dockerfile._warnings import WarningList

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from img_core.spec.frontend import BuildWarning, Resolver
    from img_core.spec.graph import Location
    from img_core.spec.values import Platform

__all__ = ["DockerfileFrontend"]

_BUILT_IN_SYNTAX = re.compile(r"(?:docker\.io/)?docker/dockerfile(?:-upstream)?(?:[:@].*)?|dockerfile(?:\.v0)?")


class DockerfileFrontend(Frontend):
    """Plans Dockerfiles. All the I/O there is, is what the resolver does."""

    name: ClassVar[str] = "dockerfile"

    def wanted(self, request: PlanRequest) -> str:
        """Return what ``# syntax=`` names, without tag and digest, if that is not us."""
        syntax = _other_syntax(request, Source.decode(request.filename, request.definition))
        return re.sub(r"@.*|:[^/]*$", "", syntax)

    def plan(self, request: PlanRequest, resolver: Resolver) -> Plan:
        """Plan one image for each platform of *request*."""
        as_index = _as_index(request)
        planning = _Planning(request, resolver)
        images = [lowering.image(planning.target) for lowering in planning.lowerings([planning.target])]
        return Plan(tuple(images), planning.finish(), planning.epoch, as_index)

    def check(self, request: PlanRequest, resolver: Resolver) -> tuple[BuildWarning, ...]:
        """Return all findings, also about stages that nothing needs unless the request has a target. Builds nothing.

        Raises DockerfileError as `plan` does.
        """
        planning = _Planning(request, resolver, checking=True)
        targets = [planning.target] if request.target else range(len(planning.program.stages))
        for lowering in planning.lowerings(targets):
            for target in targets:
                lowering.image(target)
        return planning.finish()

    def outline(self, request: PlanRequest, resolver: Resolver) -> dict[str, Any]:
        """Return what the target takes from outside as JSON: arguments, secrets, ssh sockets (see `_calls.outline`)."""
        planning = _Planning(request, resolver)
        lowering = planning.lowerings([planning.target])[0]
        image = lowering.image(planning.target)
        stage = planning.program.stages[planning.target]
        return outline(planning.program, stage, lowering.states, lowering.scope, image.root)

    def targets(self, request: PlanRequest) -> dict[str, Any]:
        """Return the stages of the file as JSON (see `_calls.describe_targets`)."""
        program = _parse(request)
        return describe_targets(program, _target(program, request.target))

    def excerpt(self, request: PlanRequest, location: Location) -> str:
        """Return the lines of the Dockerfile around *location*."""
        source = Source.decode(request.filename, request.definition)
        return source.excerpt(Span(location.first_line, location.last_line))


class _Planning:
    """What is done once for all platforms of a request."""

    def __init__(self, request: PlanRequest, resolver: Resolver, *, checking: bool = False) -> None:
        self._checking = checking
        self.request = request
        self.program = _parse(request)
        self.target = _target(self.program, request.target)
        self.epoch: int | None = None
        override = request.build_args.get("BUILDKIT_DOCKERFILE_CHECK")
        checks = _parse_checks(override) if override else self.program.document.directives.check
        self._warnings = WarningList(self.program.source, checks)
        self._resolver = resolver
        self._declared: set[str] = set()
        lint_program(self.program, self._warnings)
        self._find_epoch()

    def _find_epoch(self) -> None:
        """Ask what `SOURCE_DATE_EPOCH` names, and let everything after this see the number."""
        shared = self._shared(self.request.platforms[0])
        self.epoch = epoch_of(shared, lambda stage: Lowering(shared).image(stage).root)
        self.request = replace(self.request, build_args=settle_epoch(dict(self.request.build_args), self.epoch))

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
        scope = _global_scope(self.program, self.request, platform, self._warnings)
        names = Names(self.program.stages, self._resolver, platform)
        return Shared(
            self.program,
            self.request,
            self._resolver,
            platform,
            names,
            scope,
            self._warnings,
            self._declared,
            self.epoch,
            self._checking,
        )

    def finish(self) -> tuple[BuildWarning, ...]:
        """Return the findings. Raises DockerfileError if the file wants findings to be errors."""
        _warn_unused_arguments(self.program, self.request, self._declared, self._warnings)
        self._warnings.raise_if_asked()
        return self._warnings.result()


def _parse(request: PlanRequest) -> Program:
    source = Source.decode(request.filename, request.definition)
    syntax = _other_syntax(request, source)
    if syntax:
        line = next((number for number, text in enumerate(source.lines, start=1) if "syntax" in text.lower()), 1)
        raise source.error(
            Fault(
                f"unknown frontend `{syntax}`",
                hint="img runs no frontend images: remove `# syntax=`, use `docker/dockerfile:1`, which is built in, "
                "or install a frontend plugin of that name",
            ),
            Span(line, line),
        )
    return parse_program(source)


def _as_index(request: PlanRequest) -> bool:
    """Say whether the result must be an index (`BUILDKIT_MULTI_PLATFORM`). Raises DockerfileError if it must be none and has to be."""
    name = "BUILDKIT_MULTI_PLATFORM"
    text = request.build_args.get(name, "")
    if text.lower() not in ("", "0", "f", "false", "1", "t", "true"):
        raise DockerfileError(f"invalid boolean value {quote(text)} of {name}")
    wanted = text.lower() in ("1", "t", "true")
    if text and not wanted and len(request.platforms) > 1:
        raise DockerfileError(f"returning several platforms is not allowed by {name}={show(text)}")
    return wanted


def _other_syntax(request: PlanRequest, source: Source) -> str:
    """Return the frontend that the file or a build argument asks for, empty if that is the built-in one."""
    syntax = request.build_args.get("BUILDKIT_SYNTAX") or detect_syntax(source.text) or ""
    return "" if _BUILT_IN_SYNTAX.fullmatch(syntax) else syntax


def _parse_checks(text: str) -> CheckOptions:
    try:
        return parse_check_options(text)
    except Fault as fault:
        raise DockerfileError(fault.message, hint=fault.hint) from None


def _global_scope(program: Program, request: PlanRequest, platform: Platform, warnings: WarningList) -> GlobalScope:
    """Evaluate the ARGs before the first FROM, with build arguments and, for a lint rule, without."""
    predefined = platform_arguments(platform, request.build_platform, request.target)
    given = {name: value for name, value in request.build_args.items() if name in predefined}
    scope = GlobalScope(request.build_args, {**predefined, **given})
    _declare(program, scope, warnings)
    defaults = GlobalScope({}, dict(predefined))
    if any("$" in stage.start.base for stage in program.stages):
        try:
            _declare(program, defaults, WarningList(program.source, program.document.directives.check))
        except DockerfileError:
            pass  # a default that only works with its build argument, e.g. ${X:?}
        lint_base_defaults(program, defaults, warnings)
    return scope


def _declare(program: Program, scope: GlobalScope, warnings: WarningList) -> None:
    for instruction in program.arguments:
        try:
            unset = scope.declare(instruction, program.escape)
        except Fault as fault:
            raise program.source.error(fault, instruction.span) from None
        for name in sorted(unset - scope.declared - BUILDER_ARGUMENTS):
            warnings.add("UndefinedVar", undefined_variable(name, scope.values), instruction.node)


def _target(program: Program, target: str) -> int:
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
