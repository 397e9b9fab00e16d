"""The text of one Dockerfile, positions in it, and errors that point at them."""

from __future__ import annotations

from functools import cached_property

from img_core.spec.dataclass import dataclass
from img_core.spec.errors import DockerfileError
from img_core.spec.text import one_line, redacted, show

__all__ = ["LONGEST_MESSAGE", "DockerfileText", "Fault", "Span", "excerpt"]

_CONTEXT_LINES = 2
_RULE = "-" * 20
_LONGEST_LINE = 2000
LONGEST_MESSAGE = 1000  #: characters; what is quoted may be a megabyte


@dataclass(frozen=True, slots=True)
class Span:
    """First and last line of an instruction, both counted from 1 and included."""

    first: int
    last: int


class Fault(Exception):
    """Something is wrong with the instruction at hand; whoever knows its position turns this into a `DockerfileError`.

    *at_parse* faults are shown with ``dockerfile parse error on line N: `` in front.
    """

    def __init__(self, message: str, *, hint: str | None = None, at_parse: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.at_parse = at_parse


def excerpt(name: str, text: str, first: int, last: int) -> str:
    """Show lines *first* to *last* (counted from 1) of *text* marked by ``>>>``, with two lines around them."""
    lines = text.removeprefix("\ufeff").split("\n")
    return _excerpt(name, lines, Span(first, last))


def _excerpt(name: str, lines: list[str], span: Span) -> str:
    low = max(1, span.first - _CONTEXT_LINES)
    high = min(len(lines), span.last + _CONTEXT_LINES)
    shown = [f"{name}:{span.first}", _RULE]
    for number in range(low, high + 1):
        mark = ">>>" if span.first <= number <= span.last else "   "
        shown.append(f"{number:4d} | {mark} {_printable(lines[number - 1].rstrip(chr(13)))}")
    shown.append(_RULE)
    return "\n".join(shown)


def _printable(line: str) -> str:
    """Return *line* with everything but tabs escaped that would steer a terminal."""
    return "\t".join(show(part, limit=_LONGEST_LINE) for part in redacted(line).split("\t"))


@dataclass(frozen=True)
class DockerfileText:
    """A Dockerfile: the *name* to show and its decoded *text* (no byte order mark)."""

    name: str
    text: str

    @classmethod
    def decode(cls, name: str, content: bytes) -> DockerfileText:
        """Decode *content*. Bytes that are not UTF-8 (old comments, mostly) become U+FFFD; NUL is refused."""
        text = content.decode("utf-8", "replace").removeprefix("\ufeff")
        source = cls(name, text)
        nul = text.find("\0")
        if nul >= 0:
            line = text.count("\n", 0, nul) + 1
            raise source.error(Fault("NUL byte in the Dockerfile", hint="is this a binary file?"), Span(line, line))
        return source

    @cached_property
    def lines(self) -> list[str]:
        """Return the physical lines without line feeds; a final line feed leaves an empty last line."""
        return self.text.split("\n")

    def excerpt(self, span: Span) -> str:
        """Show the lines of *span* with two lines around them."""
        return _excerpt(self.name, self.lines, span)

    def error(self, fault: Fault, *spans: Span) -> DockerfileError:
        """Give *fault* its position: the first span is the line number, each span has its block in the excerpt.

        Messages quote the Dockerfile of a stranger, so they become one printable line.
        """
        first = spans[0].first
        prefix = f"dockerfile parse error on line {first}: " if fault.at_parse else ""
        return DockerfileError(
            one_line(prefix + fault.message, limit=LONGEST_MESSAGE),
            hint=one_line(fault.hint, limit=LONGEST_MESSAGE) if fault.hint else None,
            line=first,
            excerpt="\n".join(self.excerpt(span) for span in dict.fromkeys(spans)),
        )
