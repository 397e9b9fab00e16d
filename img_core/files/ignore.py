"""Ignore patterns: ``.dockerignore`` files and ``COPY --exclude``.

A pattern is anchored at the root of the tree. ``*`` and ``?`` stay inside one path component, ``**`` spans any number of
them, ``[a-z]`` and ``[^a]`` are character classes, a backslash quotes the next character. ``!`` brings back what an
earlier pattern removed, so ``d`` removes the tree ``d`` and ``!d/e`` brings back everything below ``d/e``.

The patterns are asked in order while a walk goes down the tree, as docker and BuildKit do it (moby/patternmatcher,
``MatchesUsingParentResults``): at each path a ``!`` pattern is tried only if the path is excluded at that point, a plain one only if
it is not, and a pattern that matched a directory counts for everything below it without being tried again. It is *not* "the last
pattern that matches the path or one of its parents": after ``d/sub`` and ``!d`` the latter was not tried for ``d``, which nothing had
excluded, and does not match ``d/sub`` itself, so ``d/sub`` stays excluded.

Paths are relative to the root, ``/``-separated, without leading or trailing slash. Bytes are accepted and compared as
UTF-8, undecodable bytes counting as one character each.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from img_core.files.wildcards import check_wildcards, compile_wildcards, has_wildcards
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import DockerfileError
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["IgnoreMatcher", "IgnoreRule", "parse_ignore_file"]

#: The rules that count for a path, by index, in order; the last one decides.
_Counting = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class IgnoreRule:
    """One line: *pattern* is cleaned and has no leading ``!`` or ``/``; *line* counts from 1."""

    pattern: str
    negated: bool
    line: int

    def __str__(self) -> str:
        return f"!{self.pattern}" if self.negated else self.pattern


def parse_ignore_file(content: bytes | str) -> tuple[IgnoreRule, ...]:
    """Read the lines of an ignore file.

    A byte order mark is dropped; ``#`` in column 0 starts a comment; blanks around a pattern and a leading ``/`` do not
    count. Raises `DockerfileError` for a lone ``!`` and for malformed patterns.
    """
    text = content.decode("utf-8", "surrogateescape") if isinstance(content, bytes) else content
    rules = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        rule = None if line.startswith("#") else _parse_line(line, number)
        if rule is not None:
            rules.append(rule)
    return tuple(rules)


def _parse_line(line: str, number: int) -> IgnoreRule | None:
    pattern = line.strip()
    if not pattern:
        return None
    negated = pattern.startswith("!")
    if negated:
        pattern = pattern[1:].strip()
        if not pattern:
            raise DockerfileError('illegal exclusion pattern: "!"', hint="write a pattern after the `!`", line=number)
    pattern = _clean(pattern)
    if len(pattern) > 1 and pattern.startswith("/"):
        pattern = pattern[1:]
    _check_syntax(pattern, number)
    return IgnoreRule(pattern, negated, number)


def _clean(path: str) -> str:
    """Return the shortest equivalent path: no empty, ``.`` or inner ``..`` components (lexically)."""
    rooted = path.startswith("/")
    parts: list[str] = []
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part != ".." or not rooted:
            parts.append(part)
    return ("/" if rooted else "") + "/".join(parts) or "."


def _check_syntax(pattern: str, number: int) -> None:
    try:
        check_wildcards(pattern)
    except ValueError as err:
        raise DockerfileError(f"syntax error in pattern: `{show(pattern)}`", hint=str(err), line=number) from err


class IgnoreMatcher:
    """Answers for many paths whether they are excluded.

    Every rule is put where it costs least: plain paths, plain last components and plain endings are dictionary
    look-ups; what is left is a matcher (`img_core.files.wildcards`) that is only tried when the longest plain text of its pattern occurs
    in the path. Verdicts of directories are remembered, so a path costs one test of itself and not of its parents.
    Not thread-safe; build one per walk.
    """

    def __init__(self, rules: Iterable[IgnoreRule]) -> None:
        self.rules = tuple(rules)
        self.has_negations = any(rule.negated for rule in self.rules)
        self._paths: dict[str, list[int]] = {}  # whole path -> the indices of its rules
        self._names: dict[str, list[int]] = {}  # last component, at any depth
        self._endings: dict[
            tuple[str | None, str], list[int]
        ] = {}  # (directory or None for any, end of last component)
        self._ending_lengths: tuple[int, ...] = ()
        self._expressions: list[tuple[int, str, Callable[[str], bool]]] = []
        self._directories: dict[str, _Counting] = {"": ()}
        for index, rule in enumerate(self.rules):
            self._add(index, rule.pattern)
        self._ending_lengths = tuple(sorted({len(ending) for _, ending in self._endings}))

    @classmethod
    def from_file(cls, text: str, name: str) -> IgnoreMatcher:
        """Take the *text* of the ignore file *name*. Raises `DockerfileError` that names the file and the line."""
        try:
            return cls(parse_ignore_file(text))
        except DockerfileError as err:
            message = f"{err.message} in line {err.line} of `{show(name)}`"
            raise DockerfileError(message, hint=err.hint, line=err.line) from err

    @classmethod
    def from_patterns(cls, patterns: Iterable[str]) -> IgnoreMatcher:
        """Take patterns as ``--exclude`` gives them: one per item, ``#`` not special."""
        parsed = (_parse_line(pattern, number) for number, pattern in enumerate(patterns, start=1))
        return cls(rule for rule in parsed if rule is not None)

    def excludes(self, path: str | bytes) -> bool:
        """Say whether *path* is removed from the tree."""
        counting = self._decide(path)
        return bool(counting) and not self.rules[counting[-1]].negated

    def rule_for(self, path: str | bytes) -> IgnoreRule | None:
        """Return the rule that decides about *path*, for messages; None when no rule speaks of it."""
        counting = self._decide(path)
        return self.rules[counting[-1]] if counting else None

    def may_reinclude_below(self, directory: str | bytes) -> bool:
        """Say whether a ``!`` rule could bring back something below an excluded *directory* (False: need not enter)."""
        if not self.has_negations:
            return False
        name = directory.decode("utf-8", "surrogateescape") if isinstance(directory, bytes) else directory
        parts = name.split("/")
        return any(rule.negated and _could_reach(rule.pattern.split("/"), parts) for rule in self.rules)

    def _decide(self, path: str | bytes) -> _Counting:
        name = path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path
        directory, _, last = name.rpartition("/")
        return self._verdict(name, directory, last, self._directory_verdict(directory))

    def _directory_verdict(self, directory: str) -> _Counting:
        known = self._directories.get(directory)
        if known is not None:
            return known
        counting: _Counting = ()
        done = ""
        for part in directory.split("/"):  # a loop, not recursion: paths may be thousands of levels deep
            path = f"{done}/{part}" if done else part
            verdict = self._directories.get(path)
            if verdict is None:
                verdict = self._directories[path] = self._verdict(path, done, part, counting)
            counting, done = verdict, path
        return counting

    def _verdict(self, path: str, directory: str, last: str, inherited: _Counting) -> _Counting:
        """Return the rules that count for *path*; *inherited* are those of its directory."""
        own = self._own_matches(path, directory, last)
        if not own:
            return inherited
        counting: list[int] = []
        excluded = False
        for index in sorted({*inherited, *own}):
            negated = self.rules[index].negated
            if negated is excluded or index in inherited:
                counting.append(index)
                excluded = not negated
        return tuple(counting)

    def _own_matches(self, path: str, directory: str, last: str) -> list[int]:
        """Return the indices of the rules whose pattern matches *path* itself, in no order."""
        found = [*self._paths.get(path, ()), *self._names.get(last, ())]
        endings = self._endings
        for length in self._ending_lengths:
            if length > len(last):
                break
            ending = last[len(last) - length :]
            found += endings.get((None, ending), ())
            found += endings.get((directory, ending), ())
        for index, needle, matches in self._expressions:
            if needle in path and matches(path):
                found.append(index)
        return found

    def _add(self, index: int, pattern: str) -> None:
        directory, _, last = pattern.rpartition("/")
        if not has_wildcards(pattern):
            self._paths.setdefault(pattern, []).append(index)
        elif directory == "**" and not has_wildcards(last):
            self._names.setdefault(last, []).append(index)
        elif (
            last.startswith("*") and not has_wildcards(last[1:]) and (directory == "**" or not has_wildcards(directory))
        ):
            key = None if directory == "**" else directory, last[1:]
            self._endings.setdefault(key, []).append(index)
        else:
            self._expressions.append((index, _longest_literal(pattern), compile_wildcards(pattern)))


def _longest_literal(pattern: str) -> str:
    """Return text that every matching path contains."""
    plain = re.sub(r"\[(?:\\.|[^\\\]])*\]|\\.|\*\*/?|[*?]", "\0", pattern, flags=re.DOTALL)
    return max(plain.split("\0"), key=len)


def _could_reach(pattern: list[str], directory: list[str]) -> bool:
    """Say whether a path below *directory* could match *pattern*; errs on the side of yes."""
    for wanted, have in zip(pattern, directory, strict=False):
        if "**" in wanted or "[" in wanted or "\\" in wanted:
            return True  # a class or an escape may span what looks like a separator
        if not compile_wildcards(wanted)(have):
            return False
    return True
