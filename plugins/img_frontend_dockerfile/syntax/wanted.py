"""Which frontend a file is for: ``# syntax=`` and the build argument ``BUILDKIT_SYNTAX``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from img_frontend_dockerfile.syntax.directives import detect_syntax
from img_frontend_dockerfile.syntax.program import Program, parse_program
from img_frontend_dockerfile.syntax.source import DockerfileText, Fault, Span

if TYPE_CHECKING:
    from img_core.spec.frontend import PlanRequest

__all__ = ["other_frontend", "parse_request"]

_BUILT_IN = re.compile(r"(?:docker\.io/)?docker/dockerfile(?:-upstream)?(?:[:@].*)?|dockerfile(?:\.v0)?")


def other_frontend(request: PlanRequest) -> str:
    """Return the name of the frontend that the file asks for, without tag and digest; empty if that is the built-in one."""
    reference = _reference(request, DockerfileText.decode(request.filename, request.definition))
    directory, slash, last = reference.partition("@")[0].rpartition("/")
    return directory + slash + last.partition(":")[0]


def parse_request(request: PlanRequest) -> Program:
    """Parse the file of *request*. Raises DockerfileError, also when it is for another frontend."""
    source = DockerfileText.decode(request.filename, request.definition)
    reference = _reference(request, source)
    if not reference:
        return parse_program(source)
    line = next((number for number, text in enumerate(source.lines, start=1) if "syntax" in text.lower()), 1)
    hint = "img runs no frontend images: remove `# syntax=`, use `docker/dockerfile:1`, which is built in, "
    hint += "or install a frontend plugin of that name"
    raise source.error(Fault(f"unknown frontend `{reference}`", hint=hint), Span(line, line))


def _reference(request: PlanRequest, source: DockerfileText) -> str:
    reference = request.build_args.get("BUILDKIT_SYNTAX") or detect_syntax(source.text) or ""
    return "" if _BUILT_IN.fullmatch(reference) else reference
