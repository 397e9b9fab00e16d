"""From lines to nodes: continuation, comments, flags and here-documents, but no meaning yet."""

from __future__ import annotations

import re
from dataclasses import replace

from img_core.spec.dataclass import dataclass
from img_frontend_dockerfile.syntax.directives import Directives, parse_directives
from img_frontend_dockerfile.syntax.heredocs import Heredoc, find_heredocs
from img_frontend_dockerfile.syntax.source import DockerfileText, Fault, Span
from img_frontend_dockerfile.syntax.words import json_words, split_flags, split_keyword

__all__ = ["Document", "Node", "parse_document", "parse_trigger"]

_WITH_HEREDOCS = frozenset({"RUN", "COPY", "ADD"})


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One instruction as written."""

    keyword: str  #: as written
    flags: tuple[str, ...]  #: words such as ``--from=x``, quotes removed
    text: str  #: what follows the flags, trimmed
    original: str  #: the whole logical line, with the blanks at its end
    span: Span
    heredocs: tuple[Heredoc, ...] = ()
    comments: tuple[str, ...] = ()  #: comment lines directly above, without ``#``
    empty_continuations: tuple[int, ...] = ()  #: numbers of empty lines inside the instruction

    @property
    def name(self) -> str:
        """The keyword in upper case."""
        return self.keyword.upper()


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """A whole Dockerfile as nodes."""

    source: DockerfileText
    directives: Directives
    nodes: tuple[Node, ...]


def parse_document(source: DockerfileText) -> Document:
    """Cut *source* into nodes. Raises `DockerfileError` for an empty file, bad directives and open here-documents."""
    if not source.text:
        raise source.error(Fault("the Dockerfile cannot be empty"), Span(1, 1))
    directives = parse_directives(source)
    nodes = _Reader(source, directives.escape).read(directives.lines)
    if not nodes:
        raise source.error(Fault("file with no instructions"), Span(1, 1))
    return Document(source, directives, tuple(nodes))


def parse_trigger(text: str, span: Span, escape: str) -> list[Node]:
    """Parse the text of an ONBUILD trigger, whose nodes all get the position *span*. Raises `Fault`."""
    reader = _Reader(DockerfileText("", text), escape)
    try:
        return [replace(node, span=span) for node in reader.read(0)]
    except _OpenHeredoc as err:
        raise err.fault from None


class _OpenHeredoc(Exception):
    def __init__(self, fault: Fault, span: Span) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.span = span


class _Reader:
    """Walks over the physical lines once."""

    def __init__(self, source: DockerfileText, escape: str) -> None:
        self._source = source
        self._escape = escape
        self._lines = source.lines
        self._position = 0  # index of the next line
        # One escape character, not doubled, with nothing but blanks behind it.
        self._continued = re.compile(rf"(?:^|[^{re.escape(escape)}]){re.escape(escape)}[ \t]*$")

    def read(self, skip: int) -> list[Node]:
        self._position = skip
        nodes: list[Node] = []
        comments: list[str] = []
        while self._position < len(self._lines):
            line = self._lines[self._position].strip()
            if line and not line.startswith("#"):
                node = self._read_node(tuple(comments))
                nodes += [node] if node.keyword else []  # nothing but an escape character is nothing
                comments = []
            else:
                self._position += 1
                if line:
                    comments.append(line[1:].strip())
                else:
                    comments = []
        return nodes

    def _read_node(self, comments: tuple[str, ...]) -> Node:
        first = self._position + 1
        line, empty = self._logical_line()
        span = Span(first, self._position)
        keyword, rest = split_keyword(line)
        flags, text = split_flags(rest, self._escape)
        heredocs = self._heredocs(keyword, text, span)
        return Node(
            keyword=keyword,
            flags=tuple(flags),
            text=text,
            original=line,
            span=Span(first, self._position),
            heredocs=heredocs,
            comments=comments,
            empty_continuations=empty,
        )

    def _logical_line(self) -> tuple[str, tuple[int, ...]]:
        parts: list[str] = []
        empty: list[int] = []
        while self._position < len(self._lines):
            line = self._lines[self._position].rstrip("\r")
            self._position += 1
            bare = line.strip()
            if parts and bare.startswith("#"):
                continue
            if parts and not bare:
                if self._position < len(self._lines):  # what follows the last line feed is no line
                    empty.append(self._position)
                continue
            continued = self._continued.search(line)
            if continued is None:
                parts.append(line)
                break
            parts.append(line[: line.rindex(self._escape)])
        return "".join(parts).lstrip(), tuple(empty)

    def _heredocs(self, keyword: str, text: str, span: Span) -> tuple[Heredoc, ...]:
        if "<<" not in text:
            return ()
        name = keyword.upper()
        if name == "ONBUILD":
            name, rest = split_keyword(text)
            name, text = name.upper(), split_flags(rest, self._escape)[1]
        if name not in _WITH_HEREDOCS or _is_json(text):
            return ()
        return tuple(self._read_body(heredoc, span) for heredoc in find_heredocs(text, shell=name == "RUN"))

    def _read_body(self, heredoc: Heredoc, span: Span) -> Heredoc:
        body: list[str] = []
        lines = self._lines
        for position in range(self._position, len(lines)):
            if heredoc.ends_at(lines[position]):
                self._position = position + 1
                return replace(heredoc, content="".join(body))
            body.append(lines[position] + "\n")
        fault = Fault("unterminated heredoc", hint=f"no line below consists of `{heredoc.name}` alone")
        if self._source.name:
            raise self._source.error(fault, span)
        raise _OpenHeredoc(fault, span)


def _is_json(text: str) -> bool:
    try:
        return json_words(text) is not None
    except Fault:
        return True
