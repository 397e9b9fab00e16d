"""Here-documents: finding ``<<WORD`` in an instruction and collecting the bodies from the lines below it."""

from __future__ import annotations

import re

from img_core.spec.dataclass import dataclass

__all__ = ["Heredoc", "find_heredocs"]

_START = re.compile(r"(\d*)<<(-?)(?!<)[ \t]*")
#: Ends the word in a shell command; in COPY and ADD only blanks do.
_SHELL_ENDS = frozenset(";&|()>")


@dataclass(frozen=True, slots=True)
class Heredoc:
    """One here-document. *start* and *end* delimit ``<<WORD`` in the text of the instruction."""

    name: str
    start: int
    end: int
    expand: bool  #: no part of the word was quoted
    strip_tabs: bool  #: ``<<-``
    content: str = ""  #: the lines as written, with their line feeds

    @property
    def body(self) -> str:
        """The content as it counts: ``<<-`` drops leading tabs."""
        return re.sub(r"^\t+", "", self.content, flags=re.MULTILINE) if self.strip_tabs else self.content

    def ends_at(self, line: str) -> bool:
        """Say whether *line* is the terminator."""
        return (line.lstrip("\t") if self.strip_tabs else line).rstrip("\r") == self.name


def find_heredocs(text: str, *, shell: bool) -> list[Heredoc]:
    """Find the here-document markers of *text*, without their bodies.

    A marker stands at the start of a word, outside quotes. *shell* text may also contain ``$(( 1 << 3 ))``.
    """
    found: list[Heredoc] = []
    arithmetic = text.rfind("))") if shell else -1  # where the last `$((…))` ends
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        start = _START.match(text, position)
        heredoc = _read_marker(text, position, start, shell=shell) if start else None
        if heredoc is not None:
            found.append(heredoc)
            position = heredoc.end
        else:
            position = _skip_word(text, position, arithmetic)
    return found


def _read_marker(text: str, begin: int, start: re.Match[str], *, shell: bool) -> Heredoc | None:
    name: list[str] = []
    mark, quoted = "", False
    position = start.end()
    while position < len(text):
        char = text[position]
        if mark:
            if char == mark:
                mark = ""
            else:
                name.append(char)
        elif char in "\"'":
            mark, quoted = char, True
        elif char == "\\" and position + 1 < len(text):
            position += 1
            name.append(text[position])
        elif char.isspace() or (shell and char in _SHELL_ENDS):
            break
        else:
            name.append(char)
        position += 1
    word = "".join(name)
    if mark or not word or "<" in word:
        return None
    return Heredoc(word, begin, position, expand=not quoted, strip_tabs=bool(start.group(2)))


def _skip_word(text: str, position: int, arithmetic: int) -> int:
    mark = ""
    while position < len(text):
        char = text[position]
        if mark:
            mark = "" if char == mark else mark
        elif char in "\"'":
            mark = char
        elif char == "\\":
            position += 1
        elif position < arithmetic and text.startswith("((", position):
            position = text.find("))", position)
        elif char.isspace():
            break
        position += 1
    return position
