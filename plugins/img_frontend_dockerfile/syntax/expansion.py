"""Variable expansion in words: quotes, escapes and ``${name…}`` as Dockerfiles know them.

`expand_word` keeps the result one word; `expand_words` splits it at blanks (EXPOSE). Names that were needed and not set
are reported through *unset*. Failures raise `Fault` with the word in the message; one of them is that variables give more than `WORD_LIMIT`
characters, or more than is left of *budget*.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from img_frontend_dockerfile.syntax.budget import TITLE_LIMIT, WORD_LIMIT, Budget
from img_frontend_dockerfile.syntax.patterns import Pattern
from img_frontend_dockerfile.syntax.source import LONGEST_MESSAGE, Fault
from img_frontend_dockerfile.syntax.text import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["expand_for_display", "expand_heredoc", "expand_word", "expand_words"]

_SPECIAL_NAMES = frozenset("@*#?-$!0")
_MAX_DEPTH = 100
_PLAIN = re.compile(r"[^$'\"\\`/}]+")  # characters without a meaning anywhere


def expand_word(
    word: str,
    variables: Mapping[str, str],
    *,
    escape: str = "\\",
    unset: set[str] | None = None,
    budget: Budget | None = None,
) -> str:
    """Expand *word* and remove its quotes and escapes; blanks in the result stay."""
    if not _needs_work(word, escape):
        return word
    return _run(_Expansion(word, variables, escape, unset, _word_budget(budget)), word)


def expand_words(
    word: str,
    variables: Mapping[str, str],
    *,
    escape: str = "\\",
    unset: set[str] | None = None,
    budget: Budget | None = None,
) -> list[str]:
    """Expand *word* and split the result at blanks that were not quoted; blanks from variables split too."""
    expansion = _Expansion(word, variables, escape, unset, _word_budget(budget))
    expansion.splitter = splitter = _Splitter()
    _run(expansion, word)
    return splitter.finish()


def expand_heredoc(
    content: str, variables: Mapping[str, str], *, unset: set[str] | None = None, budget: Budget | None = None
) -> str:
    """Expand the body of an unquoted COPY/ADD here-document: quotes stay, the escape is always a backslash."""
    return _run(_Expansion(content, variables, "\\", unset, _word_budget(budget), quotes="text"), content)


def expand_for_display(
    text: str, variables: Mapping[str, str], *, escape: str = "\\", budget: Budget | None = None
) -> str:
    """Expand what is known and leave everything else, quotes and escapes included, as written. Never fails."""
    if "$" not in text:
        return text
    limit = Budget(TITLE_LIMIT, "a title has", budget)
    try:
        return _Expansion(text, variables, escape, None, limit, quotes="keep", raw_escapes=True, keep_unset=True).until(
            None
        )
    except Fault:
        return text


def _needs_work(word: str, escape: str) -> bool:
    return "$" in word or "'" in word or '"' in word or escape in word


def _word_budget(budget: Budget | None) -> Budget:
    return Budget(WORD_LIMIT, "variables give one word", budget)


def _run(expansion: _Expansion, word: str) -> str:
    try:
        return expansion.until(None)
    except Fault as fault:
        shown = quote(word[:LONGEST_MESSAGE])
        raise Fault(f"failed to process {shown}: {fault.message}", hint=fault.hint) from None


class _Splitter:
    """Collects characters into words."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._word: list[str] = []
        self._open = False

    def add(self, text: str) -> None:
        """Add text in which blanks separate."""
        for char in text:
            if char.isspace():
                self._flush()
            else:
                self.add_raw(char)

    def add_raw(self, text: str) -> None:
        """Add quoted text, even empty."""
        self._word.append(text)
        self._open = True

    def finish(self) -> list[str]:
        """Return the words, empty ones dropped."""
        self._flush()
        return [word for word in self._words if word]

    def _flush(self) -> None:
        if self._open:
            self._words.append("".join(self._word))
            self._word, self._open = [], False


class _Expansion:
    """One pass over one text."""

    def __init__(
        self,
        text: str,
        variables: Mapping[str, str],
        escape: str,
        unset: set[str] | None,
        budget: Budget,
        *,
        quotes: str = "remove",
        raw_escapes: bool = False,
        keep_unset: bool = False,
    ) -> None:
        """*quotes*: ``remove`` them, ``keep`` them with their meaning, or treat them as ``text``."""
        self._text = text
        self._variables = variables
        self._escape = escape
        self._unset = unset
        self._budget = budget
        self._quotes = quotes
        self._raw_escapes = raw_escapes
        self._keep_unset = keep_unset
        self._position = 0
        self._depth = 0
        self.splitter: _Splitter | None = None

    def until(self, stop: str | None, *, raw_escapes: bool = False, plain_dollar: bool = False) -> str:
        """Read up to the character *stop*, which is consumed, or to the end of the text.

        With *raw_escapes* escaped characters keep their escape; with *plain_dollar* all but ``$``.
        """
        raw_escapes = raw_escapes or self._raw_escapes
        out: list[str] = []
        while self._position < len(self._text):
            char = self._text[self._position]
            if char == stop:
                self._position += 1
                return "".join(out)
            plain = _PLAIN.match(self._text, self._position)
            if plain is not None:
                piece, quoted, self._position = plain[0], False, plain.end()
            else:
                keep = raw_escapes and not (plain_dollar and self._text.startswith("$", self._position + 1))
                piece, quoted = self._piece(char, raw_escapes=keep)
            out.append(piece)
            if self.splitter is not None and self._depth == 0:
                (self.splitter.add_raw if quoted else self.splitter.add)(piece)
        if stop is not None:
            raise Fault(f"syntax error: missing '{stop}'" + (" in ${}" if stop == "/" else ""))
        return "".join(out)

    def _piece(self, char: str, *, raw_escapes: bool) -> tuple[str, bool]:
        """Return the next piece of output, and whether its blanks are protected."""
        if char == "$":
            return self._dollar(), False
        if char in "\"'" and self._quotes != "text":
            inner = self._single_quoted() if char == "'" else self._double_quoted()
            return (f"{char}{inner}{char}" if self._quotes == "keep" else inner), True
        if char != self._escape:
            self._position += 1
            return char, False
        taken = self._text[self._position : self._position + 2]
        self._position += 2
        return (taken if raw_escapes else taken[1:]), True

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._position + 1)
        if end < 0:
            raise Fault("unexpected end of statement while looking for matching single-quote")
        start, self._position = self._position + 1, end + 1
        return self._text[start:end]

    def _double_quoted(self) -> str:
        out: list[str] = []
        self._position += 1
        while self._position < len(self._text):
            char = self._text[self._position]
            if char == '"':
                self._position += 1
                return "".join(out)
            if char == "$":
                out.append(self._dollar())
                continue
            self._position += 1
            if char == self._escape and self._peek() and self._raw_escapes:
                char += self._take()
            elif char == self._escape and self._peek() in ('"', "$", self._escape):
                char = self._text[self._position]
                self._position += 1
            out.append(char)
        raise Fault("unexpected end of statement while looking for matching double-quote")

    def _peek(self) -> str:
        return self._text[self._position : self._position + 1]

    def _dollar(self) -> str:
        start = self._position
        self._position += 1
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Fault(f"substitutions are nested more than {_MAX_DEPTH} levels deep")
        value = self._braces(start) if self._peek() == "{" else self._bare(start)
        self._depth -= 1
        return value

    def _bare(self, start: int) -> str:
        name = self._name()
        if not name:
            return "$"
        return self._lookup(name, start)

    def _lookup(self, name: str, start: int) -> str:
        value = self._variables.get(name)
        if value is not None:
            self._budget.take(len(value))
            return value
        if self._keep_unset:
            return self._text[start : self._position]
        self._note_unset(name)
        return ""

    def _note_unset(self, name: str) -> None:
        if self._unset is not None and name not in self._variables and name not in _SPECIAL_NAMES:
            self._unset.add(name)

    def _name(self) -> str:
        """Read a name: letters, digits and ``_``; digits only if it starts with one; or one special character."""
        text, start = self._text, self._position
        first = self._peek()
        if "0" <= first <= "9" and first:
            while "0" <= self._peek() <= "9" and self._peek():
                self._position += 1
        elif first in _SPECIAL_NAMES:
            self._position += 1
        else:
            while self._position < len(text) and (text[self._position].isalnum() or text[self._position] == "_"):
                self._position += 1
        return text[start : self._position]

    def _braces(self, start: int) -> str:
        self._position += 1
        if self._peek() in ("}", ":", "{"):
            raise Fault("syntax error: bad substitution")
        name = self._name()
        modifier = self._take()
        if modifier == "}":
            return self._lookup(name, start)
        if not modifier:
            raise Fault("syntax error: missing '}'")
        if not name:
            raise Fault("syntax error: bad substitution")
        null_counts = modifier == ":"
        operator = self._take() if null_counts else modifier
        value = self._variables.get(name)
        if operator and operator in "-+?":
            result = self._conditional(name, operator, value, null_counts=null_counts)
        elif operator and operator in "#%" and not null_counts:
            result = self._strip(name, operator, value)
        elif operator == "/" and not null_counts:
            result = self._replace(name, value)
        else:
            shown = modifier + operator if null_counts else modifier
            raise Fault(f"unsupported modifier ({shown}) in substitution")
        if value is None and self._keep_unset:
            return self._text[start : self._position]
        return result

    def _take(self) -> str:
        char = self._peek()
        self._position += 1
        return char

    def _conditional(self, name: str, operator: str, value: str | None, *, null_counts: bool) -> str:
        word = self.until("}")
        self._budget.take(len(value or ""))
        missing = value is None or (null_counts and not value)
        if operator == "-":
            return word if missing else value or ""
        if operator == "+":
            return "" if missing else word
        if missing and not self._keep_unset:
            reason = "is not allowed to be unset" if value is None else "is not allowed to be empty"
            raise Fault(f"{name}: {word or reason}")
        return value or ""

    def _strip(self, name: str, operator: str, value: str | None) -> str:
        pattern = self.until("}", raw_escapes=True)
        longest = pattern.startswith(operator)
        pattern = pattern[longest:]
        if value is None:
            self._note_unset(name)
            return ""
        self._budget.take(len(value))
        matcher = Pattern(pattern)
        if operator == "#":
            return matcher.without_prefix(value, longest=longest)
        return matcher.without_suffix(value, longest=longest)

    def _replace(self, name: str, value: str | None) -> str:
        everywhere = self._peek() == "/"
        if everywhere:
            self._position += 1
        pattern = self.until("/", raw_escapes=True)
        # BuildKit takes `\$1` for a group of its regular expression; here it is text.
        replacement = self.until("}", raw_escapes=True, plain_dollar=True)
        if value is None:
            self._note_unset(name)
            value = ""  # in which a pattern such as `*` finds something
        matcher = Pattern(pattern)
        self._budget.take(matcher.growth(value, replacement, everywhere=everywhere))
        return matcher.replaced(value, replacement, everywhere=everywhere)
