"""Cutting the text of one instruction into keyword, flags and words. Quotes stay in the words; expansion removes them."""

from __future__ import annotations

import json
import re

from img_frontend_dockerfile.syntax.source import Fault
from img_frontend_dockerfile.syntax.text import quote

__all__ = ["json_words", "name_value_pairs", "plain_words", "quoted_words", "split_flags", "split_keyword"]

_BLANKS = re.compile(r"[\t\v\f\r ]+")


def split_keyword(line: str) -> tuple[str, str]:
    """Split an instruction at its first run of blanks; both parts are trimmed."""
    keyword, rest = _halves(line.strip())
    return keyword, rest.strip()


def _halves(line: str) -> tuple[str, str]:
    keyword, *rest = _BLANKS.split(line, 1)
    return keyword, rest[0] if rest else ""


def plain_words(text: str) -> list[str]:
    """Split at blanks, whatever the quotes say (COPY, ADD, EXPOSE, VOLUME, FROM)."""
    return [word for word in _BLANKS.split(text.strip()) if word]


def split_flags(text: str, escape: str) -> tuple[list[str], str]:
    """Take the leading ``--flag`` words off *text*; return them, unquoted, and the trimmed rest.

    A bare ``--`` ends the flags and is dropped.
    """
    flags: list[str] = []
    position = 0
    while True:
        while position < len(text) and text[position].isspace():
            position += 1
        if not text.startswith("--", position):
            return flags, text[position:].strip()
        word, position = _flag_word(text, position, escape)
        if word == "--":
            return flags, text[position:].strip()
        flags.append(word)


def _flag_word(text: str, position: int, escape: str) -> tuple[str, int]:
    word: list[str] = []
    mark = ""
    while position < len(text):
        char = text[position]
        if char == escape:
            position += 1
            word.append(text[position : position + 1])
        elif mark:
            if char == mark:
                mark = ""
            else:
                word.append(char)
        elif char in "\"'":
            mark = char
        elif char.isspace():
            break
        else:
            word.append(char)
        position += 1
    return "".join(word), position


def quoted_words(text: str, escape: str) -> list[str]:
    """Split at blanks outside quotes; quotes and escapes stay in the words (ENV, LABEL, ARG)."""
    words: list[str] = []
    word: list[str] = []
    mark = ""
    position = 0
    while position < len(text):
        char = text[position]
        if char == escape and mark != "'":
            if position + 1 == len(text):
                break  # an escape at the very end quotes nothing
            word.append(char)
            position += 1
            char = text[position]
            word.append(char)
        elif not mark and char.isspace():
            if word:
                words.append("".join(word))
                word = []
        else:
            if mark and char == mark:
                mark = ""
            elif not mark and char in "\"'":
                mark = char
            word.append(char)
        position += 1
    if word:
        words.append("".join(word))
    return words


def name_value_pairs(keyword: str, text: str, escape: str) -> tuple[list[tuple[str, str]], bool]:
    """Cut ``k=v k2=v2`` or the old form ``k rest of the line``; the flag says that it was the old form.

    Raises `Fault` when a word has no ``=`` or the old form has no value.
    """
    words = quoted_words(text, escape)
    if not words:
        return [], False
    if "=" not in words[0]:
        name, value = _halves(text.strip())
        if not value:
            raise Fault(f"{keyword} must have two arguments")
        return [(name, value)], True
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise Fault(f"Syntax error - can't find = in {quote(word)}. Must be of the form: name=value")
        pairs.append((name, value))
    return pairs, False


def json_words(text: str) -> list[str] | None:
    """Parse *text* as a JSON array of strings; None when it is not JSON at all (then it is the plain form).

    Raises `Fault` when it is a JSON array with something else than strings, or strings with NUL, in it.
    """
    if not text.lstrip().startswith("["):
        return None
    try:
        # Numbers only matter as "not a string"; not converting them keeps huge ones harmless.
        value = json.loads(text, parse_int=len, parse_float=len, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in value):
        raise Fault("when using JSON array syntax, arrays must be comprised of strings only")
    if any("\0" in item for item in value):
        raise Fault(
            "NUL byte in the JSON form", hint="neither programs nor files can have one in their arguments or names"
        )
    # A lone surrogate escape cannot be written anywhere; decoders of other builders replace it too.
    return [item.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for item in value]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
