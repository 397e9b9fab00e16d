"""A Dockerfile as stages of instructions: what parsing yields and planning starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.spec.dataclass import dataclass
from img_frontend_dockerfile.syntax.budget import MOST_INSTRUCTIONS, MOST_STAGES, check_number
from img_frontend_dockerfile.syntax.instructions import Arg, From, Instruction
from img_frontend_dockerfile.syntax.keywords import build_instruction
from img_frontend_dockerfile.syntax.parser import Document, parse_document
from img_frontend_dockerfile.syntax.source import DockerfileText, Fault, Span

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Program", "Stage", "parse_program"]


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One FROM and what follows it; *index* counts from 0."""

    index: int
    start: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        """The name given with AS, else the index as text."""
        return self.start.name or str(self.index)


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A whole Dockerfile."""

    document: Document
    arguments: tuple[Arg, ...]  #: the ARGs before the first FROM
    stages: tuple[Stage, ...]

    @property
    def source(self) -> DockerfileText:
        """The text that was parsed."""
        return self.document.source

    @property
    def escape(self) -> str:
        """The escape character."""
        return self.document.directives.escape

    def instructions(self) -> Iterator[Instruction]:
        """Yield everything in file order."""
        yield from self.arguments
        for stage in self.stages:
            yield stage.start
            yield from stage.instructions


def parse_program(source: DockerfileText) -> Program:
    """Parse *source*. Raises `DockerfileError` with line and excerpt."""
    document = parse_document(source)
    arguments: list[Arg] = []
    starts: list[From] = []
    bodies: list[list[Instruction]] = []
    for number, node in enumerate(document.nodes, start=1):
        try:
            check_number(number, MOST_INSTRUCTIONS, "instructions")
            check_number(len(starts), MOST_STAGES, "stages")
            instruction = build_instruction(node, document.directives.escape)
            if isinstance(instruction, From):
                starts.append(instruction)
                bodies.append([])
            elif bodies:
                bodies[-1].append(instruction)
            elif isinstance(instruction, Arg):
                arguments.append(instruction)
            else:
                raise Fault("no build stage in current context", hint="only ARG may stand before the first FROM")
        except Fault as fault:
            raise source.error(fault, node.span) from None
    if not starts:
        raise source.error(Fault("dockerfile contains no stages to build"), Span(1, 1))
    stages = (Stage(index, start, tuple(bodies[index])) for index, start in enumerate(starts))
    return Program(document, tuple(arguments), tuple(stages))
