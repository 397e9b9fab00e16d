"""Reads a file: blocks, attributes, and expressions as functions of a scope (HCL's native syntax specification)."""

from __future__ import annotations

import re
import textwrap
from typing import Any, NoReturn

from img_core.cli.bake.hcl._operations import (
    BINARY,
    attribute,
    call,
    choose,
    element,
    iterated,
    listed,
    mapped,
    splat,
    unary,
)
from img_core.cli.bake.hcl._templates import Parts, joined
from img_core.cli.bake.hcl._values import Block, Expression, HclError, SourceLine
from img_core.spec.text import show

__all__ = ["read_hcl", "read_template"]

_WORD = re.compile(r"[^\W\d][\w-]*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_SPACE = re.compile(r"(?:[ \t\r]|\\\n|(?:#|//)[^\n]*|/\*.*?\*/)+", re.DOTALL)
_BLANK = re.compile(r"(?:\s|(?:#|//)[^\n]*|/\*.*?\*/)+", re.DOTALL)
_HEREDOC = re.compile(r"<<(-?)([^\W\d][\w-]*)\n")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_LITERALS = {"true": True, "false": False, "null": None}
_LONGEST = 300  #: characters of a number
_DEEPEST = 40  #: expressions, or blocks, within each other


def read_hcl(text: str, file: str) -> Block:
    """Return the whole file as a block without a name. Raises HclError."""
    parser = _Parser(text.removeprefix("\ufeff"), file)
    return parser.body(Block("", (), SourceLine(file, 1)), end="")


def read_template(text: str, place: SourceLine) -> Expression:
    """Return the value of a text in which ``${…}`` stands for expressions, as those of JSON are. Raises HclError."""
    parser = _Parser(text, place.file, line=place.line)
    return joined(parser.parts(None, escapes=False), place)


class _Parser:
    """One text. In brackets lines may end anywhere."""

    def __init__(self, text: str, file: str, *, line: int = 1) -> None:
        self._text = text
        self._file = file
        self._at = 0
        self._first = line
        self._counted = (0, line)  #: a character, and the line that it is in
        self._depth = 0

    # ------------------------------------------------------------------------------------------------------ characters

    def _place(self, at: int | None = None) -> SourceLine:
        if not self._first:
            return SourceLine(self._file)
        end = self._at if at is None else at
        begin, line = self._counted if self._counted[0] <= end else (0, self._first)
        self._counted = (end, line + self._text.count("\n", begin, end))
        return SourceLine(self._file, self._counted[1])

    def _fail(self, message: str) -> NoReturn:
        raise HclError(self._place(), message)

    def _skip(self, *, lines: bool) -> None:
        if match := (_BLANK if lines else _SPACE).match(self._text, self._at):
            self._at = match.end()

    def _found(self, *words: str, lines: bool = False) -> str:
        """Take the first of *words* that comes next; return it, or nothing."""
        self._skip(lines=lines)
        for word in words:
            if self._text.startswith(word, self._at):
                self._at += len(word)
                return word
        return ""

    def _need(self, word: str, *, lines: bool = False) -> None:
        if not self._found(word, lines=lines):
            self._fail(f"expected `{word}`, not {self._next()}")

    def _next(self) -> str:
        """Return what comes next for an error."""
        rest = self._text[self._at : self._at + 20].split("\n")[0]
        return (
            f"`{show(rest)}`"
            if rest
            else "the end of the line"
            if self._at < len(self._text)
            else "the end of the file"
        )

    def _word(self) -> str:
        match = _WORD.match(self._text, self._at)
        if not match:
            self._fail(f"expected a name, not {self._next()}")
        self._at = match.end()
        return match.group()

    # ----------------------------------------------------------------------------------------------------------- bodies

    def body(self, block: Block, *, end: str) -> Block:
        """Fill *block* with what stands until *end*."""
        while True:
            self._skip(lines=True)
            if self._at >= len(self._text):
                if end:
                    self._fail(f"`{block.kind}` of line {block.place.line} has no `{end}`")
                return block
            if end and self._found(end):
                return block
            self._item(block)

    def _item(self, block: Block) -> None:
        place, name = self._place(), self._word()
        if self._found("="):
            if name in block.attributes:
                raise HclError(place, f"`{name}` is given twice, first in line {block.attributes[name].place.line}")
            block.attributes[name] = self._expression()
            self._end_of_line(block)
            return
        labels = list[str]()
        while not self._found("{"):
            self._skip(lines=False)
            labels.append(self._label() if self._text.startswith('"', self._at) else self._word())
        self._deeper()
        block.blocks.append(self.body(Block(name, tuple(labels), place), end="}"))
        self._depth -= 1

    def _label(self) -> str:
        self._at += 1
        parts = self.parts('"', escapes=True)
        if any(isinstance(part, Expression) for part in parts):
            self._fail("the name of a block must be plain text")
        return "".join(part for part in parts if isinstance(part, str))

    def _end_of_line(self, block: Block) -> None:
        self._skip(lines=False)
        if self._at < len(self._text) and self._text[self._at] not in "\n}":
            self._fail(f"expected the end of the line, not {self._next()}")

    # ------------------------------------------------------------------------------------------------------ expressions

    def _expression(self, *, lines: bool = False) -> Expression:
        self._skip(lines=lines)
        self._deeper()
        begin, place = self._at, self._place()
        condition = self._binary(0, lines=lines)
        if self._found("?", lines=lines):
            yes = self._expression(lines=lines)
            self._need(":", lines=lines)
            condition = choose(place, condition, yes, self._expression(lines=lines))
        self._depth -= 1
        written = self._text[begin : self._at].strip()
        text = written if "\n" not in written else ""
        return Expression(condition.place, condition.value, text, condition.name, condition.items)

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(f"this is nested more than {_DEEPEST} times")

    def _binary(self, level: int, *, lines: bool) -> Expression:
        if level == len(BINARY):
            return self._unary(lines=lines)
        left = self._binary(level + 1, lines=lines)
        while True:
            self._skip(lines=lines)
            place = self._place()
            sign = self._found(*BINARY[level])
            if not sign:
                return left
            left = BINARY[level][sign](place, left, self._binary(level + 1, lines=lines))

    def _unary(self, *, lines: bool) -> Expression:
        self._skip(lines=lines)
        place = self._place()
        if sign := self._found("!", "-"):
            self._deeper()
            operand = self._unary(lines=lines)
            self._depth -= 1
            return unary(place, sign, operand)
        return self._traversed(self._primary(lines=lines), lines=lines)

    def _traversed(self, value: Expression, *, lines: bool) -> Expression:
        """Return what is got out of *value*: ``.name``, ``[key]``, ``[*].name``."""
        while True:
            place = self._place()
            if self._text.startswith("...", self._at):
                return value
            if self._text.startswith((".*", "[*]"), self._at):
                self._at += 2 if self._text[self._at] == "." else 3
                names = list[str]()
                while self._text.startswith(".", self._at):
                    self._at += 1
                    names.append(self._word())
                value = splat(place, value, names)
            elif self._text.startswith(".", self._at):
                self._at += 1
                if _NUMBER.match(self._text, self._at):
                    value = element(place, value, _constant(place, self._number()))
                else:
                    value = attribute(place, value, self._word())
            elif self._text.startswith("[", self._at):
                self._at += 1
                key = self._expression(lines=True)
                self._need("]", lines=True)
                value = element(place, value, key)
            else:
                return value

    def _primary(self, *, lines: bool) -> Expression:
        place = self._place()
        if self._text.startswith('"', self._at):
            self._at += 1
            return joined(self.parts('"', escapes=True), place)
        if self._text.startswith("<<", self._at):
            return self._heredoc(place)
        if self._found("("):
            inner = self._expression(lines=True)
            self._need(")", lines=True)
            return Expression(place, inner.value)
        if self._found("["):
            return self._list(place)
        if self._found("{"):
            return self._object(place)
        if _NUMBER.match(self._text, self._at):
            return _constant(place, self._number())
        if not _WORD.match(self._text, self._at):
            self._fail(f"expected a value, not {self._next()}")
        word = self._word()
        if word in _LITERALS:
            return _constant(place, _LITERALS[word])
        if self._text.startswith("(", self._at):
            self._at += 1
            return self._call(place, word)
        return Expression(place, lambda scope: scope.value(word, place), name=word)

    def _call(self, place: SourceLine, name: str) -> Expression:
        arguments, spread = list[Expression](), False
        while not self._found(")", lines=True):
            arguments.append(self._expression(lines=True))
            if self._found("...", lines=True):
                spread = True
            if not self._found(",", lines=True):
                self._need(")", lines=True)
                break
        return call(place, name, arguments, spread=spread)

    def _list(self, place: SourceLine) -> Expression:
        if self._is_loop():
            return self._loop(place, "]")
        items = list[Expression]()
        while not self._found("]", lines=True):
            items.append(self._expression(lines=True))
            if not self._found(",", lines=True):
                self._need("]", lines=True)
                break
        return listed(place, items)

    def _object(self, place: SourceLine) -> Expression:
        if self._is_loop():
            return self._loop(place, "}")
        items = list[tuple[Expression, Expression]]()
        while not self._found("}", lines=True):
            self._skip(lines=True)
            key = self._expression()
            if key.name and "." not in key.name:
                key = _constant(key.place, key.name)  # a bare word is itself
            if not self._found("=", ":"):
                self._fail(f"expected `=`, not {self._next()}")
            items.append((key, self._expression()))
            if not self._found(",", "\n"):
                self._need("}", lines=True)
                break
        return mapped(place, items)

    def _is_loop(self) -> bool:
        self._skip(lines=True)
        return re.compile(r"for\s").match(self._text, self._at) is not None

    def _loop(self, place: SourceLine, end: str) -> Expression:
        """Read ``for NAME[, NAME] in LIST : [KEY =>] VALUE [...] [if CONDITION]`` of a list or an object."""
        self._need("for", lines=True)
        self._skip(lines=True)
        names = [self._word()]
        if self._found(",", lines=True):
            self._skip(lines=True)
            names.append(self._word())
        self._need("in", lines=True)
        over = self._expression(lines=True)
        self._need(":", lines=True)
        first, key = self._expression(lines=True), None
        if end == "}":
            self._need("=>", lines=True)
            first, key = self._expression(lines=True), first
        if self._found("...", lines=True):
            self._fail("`...` in a `for` is not supported")
        condition = None
        self._skip(lines=True)
        if re.compile(r"if\b").match(self._text, self._at):
            self._need("if")
            condition = self._expression(lines=True)
        self._need(end, lines=True)
        return iterated(place, names, over, key, first, condition)

    # -------------------------------------------------------------------------------------------------------- templates

    def parts(self, end: str | None, *, escapes: bool) -> Parts:
        """Return the pieces of a text until *end* (None: all): plain ones and expressions."""
        found, plain, strip = Parts(), list[str](), False

        def flush() -> None:
            text = "".join(plain)
            plain.clear()
            found.append(text.lstrip() if strip else text)

        while True:
            if self._at >= len(self._text):
                if end is None:
                    flush()
                    return found
                self._fail(f"a text has no `{end}` at its end")
            character = self._text[self._at]
            if end is not None and character == end:
                self._at += 1
                flush()
                return found
            if end == '"' and character == "\n":
                self._fail('a text has no `"` at its end')
            if self._text.startswith(("$${", "%%{"), self._at):
                plain.append(character + "{")
                self._at += 3
            elif self._text.startswith("%{", self._at):
                self._fail("`%{` in texts is not supported")
            elif self._text.startswith("${", self._at):
                self._at += 2
                left = self._text.startswith("~", self._at)
                self._at += left
                flush()
                if left and isinstance(found[-1], str):
                    found[-1] = found[-1].rstrip()
                found.append(self._expression(lines=True))
                self._skip(lines=True)
                strip = self._text.startswith("~", self._at)
                self._at += strip
                self._need("}", lines=True)
            elif escapes and character == "\\":
                plain.append(self._escape())
            else:
                plain.append(character)
                self._at += 1

    def _number(self) -> int | float:
        found = _NUMBER.match(self._text, self._at)
        assert found is not None, "who calls this has seen that there is one"
        written = found.group()
        if len(written) > _LONGEST:
            self._fail(f"this number has more than {_LONGEST} characters")
        self._at = found.end()
        return int(written) if written.isdigit() else float(written)

    def _escape(self) -> str:
        kind = self._text[self._at + 1 : self._at + 2]
        if kind in ("u", "U"):
            digits = self._text[self._at + 2 : self._at + (6 if kind == "u" else 10)]
            try:
                character = chr(int(digits, 16))
            except (ValueError, OverflowError):
                self._fail(f"`\\{kind}{show(digits)}` is no character")
            self._at += 2 + len(digits)
            return character
        if kind not in _ESCAPES or not kind:
            self._fail(f"`\\{show(kind)}` in a text is not known")
        self._at += 2
        return _ESCAPES[kind]

    def _heredoc(self, place: SourceLine) -> Expression:
        match = _HEREDOC.match(self._text, self._at)
        if not match:
            self._fail("expected a word and the end of the line after `<<`")
        dash, word = match.groups()
        end = re.compile(rf"^[ \t]*{re.escape(word)}[ \t\r]*$", re.MULTILINE).search(self._text, match.end())
        if not end:
            self._fail(f"there is no line `{show(word)}` that ends the text")
        text = self._text[match.end() : end.start()]
        inner = _Parser(textwrap.dedent(text) if dash else text, self._file, line=place.line + 1)
        self._at = end.end()
        return joined(inner.parts(None, escapes=False), place)


def _constant(place: SourceLine, value: Any) -> Expression:  # Any: a value
    return Expression(place, lambda _scope: value)
