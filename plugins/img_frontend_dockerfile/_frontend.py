"""The Dockerfile frontend: parse, check, and plan one image per platform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from img_core.forms.words import truth
from img_core.spec.frontend import Frontend, IgnoreNames, Plan, PlanRequest
from img_frontend_dockerfile.planning.calls import describe_targets, outline
from img_frontend_dockerfile.planning.plan import Planning, find_target, wants_index
from img_frontend_dockerfile.syntax.source import DockerfileText, Span
from img_frontend_dockerfile.syntax.wanted import other_frontend, parse_request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.spec.frontend import BuildWarning, Resolver
    from img_core.spec.graph import Location

__all__ = ["DockerfileFrontend"]

_PODMANS = "Containerfile"  #: what podman and buildah prefer to call it


class DockerfileFrontend(Frontend):
    """Plans Dockerfiles. All the I/O there is, is what the resolver does."""

    name: ClassVar[str] = "dockerfile"
    definition_names: ClassVar[tuple[str, ...]] = ("Dockerfile", "dockerfile", _PODMANS)

    @classmethod
    def ignore_names(cls, definition: str) -> IgnoreNames:
        """Return docker's names, and for a ``Containerfile`` podman's where there is none of docker's: containerignore(5)."""
        suffixes = (".dockerignore", ".containerignore") if definition == _PODMANS else (".dockerignore",)
        return IgnoreNames(tuple(f"{definition}{suffix}" for suffix in suffixes if definition), suffixes)

    @classmethod
    def context_options(cls, build_args: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """Return whether ``.git`` stays in a context from git."""
        keep = truth(build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", ""))
        return (("keep-git-dir", "true"),) if keep else ()

    @classmethod
    def cache_exports(cls, build_args: Mapping[str, str]) -> tuple[str, ...]:
        """Return whether the image is to carry its records, which users of docker ask for in this way."""
        return ("inline",) if truth(build_args.get("BUILDKIT_INLINE_CACHE", "")) else ()

    def wanted(self, request: PlanRequest) -> str:
        """Return what ``# syntax=`` names, without tag and digest, if that is not us."""
        return other_frontend(request)

    def plan(self, request: PlanRequest, resolver: Resolver) -> Plan:
        """Plan one image for each platform of *request*."""
        as_index = wants_index(request)
        planning = Planning(request, resolver)
        images = [lowering.image(planning.target) for lowering in planning.lowerings([planning.target])]
        return Plan(tuple(images), planning.finish(), planning.epoch, as_index)

    def check(self, request: PlanRequest, resolver: Resolver) -> tuple[BuildWarning, ...]:
        """Return all findings, also about stages that nothing needs unless the request has a target. Builds nothing.

        Raises DockerfileError as `plan` does.
        """
        planning = Planning(request, resolver, checking=True)
        targets = [planning.target] if request.target else range(len(planning.program.stages))
        for lowering in planning.lowerings(targets):
            for target in targets:
                lowering.image(target)
        return planning.finish()

    def outline(self, request: PlanRequest, resolver: Resolver) -> dict[str, Any]:
        """Return what the target takes from outside as JSON: arguments, secrets, ssh sockets (see `planning.calls.outline`)."""
        planning = Planning(request, resolver)
        lowering = planning.lowerings([planning.target])[0]
        image = lowering.image(planning.target)
        stage = planning.program.stages[planning.target]
        return outline(planning.program, stage, lowering.states, lowering.scope, image.root)

    def targets(self, request: PlanRequest) -> dict[str, Any]:
        """Return the stages of the file as JSON (see `planning.calls.describe_targets`)."""
        program = parse_request(request)
        return describe_targets(program, find_target(program, request.target))

    def excerpt(self, request: PlanRequest, location: Location) -> str:
        """Return the lines of the Dockerfile around *location*."""
        source = DockerfileText.decode(request.filename, request.definition)
        return source.excerpt(Span(location.first_line, location.last_line))
