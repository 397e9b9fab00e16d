"""Wildcards in paths: what they match, and in which time."""

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.speed import processor_seconds
from img_core.files.ignore import IgnoreMatcher
from img_core.files.wildcards import check_wildcards, compile_wildcards
from img_core.spec.errors import DockerfileError

LONG = 100_000
SECONDS = 0.2


def reference(pattern: str) -> str:
    """Translate a pattern without escapes to the regular expression that it means, as moby/patternmatcher does."""
    if pattern.startswith("**") and not re.search(r"[*?\[]", pattern[2:]):
        rest = re.escape(pattern[2:])
        return f"(?:.*/)?{rest[1:]}" if rest.startswith("/") else f".*{rest}"
    expression, position = "", 0
    for part in re.finditer(r"\*\*/?|\[\^?[a-z/.-]+\]|.", pattern):
        text, position = part[0], part.end()
        if text.startswith("**"):
            expression += ".*" if position == len(pattern) else "(?:.*/)?"
        elif len(text) == 1:
            expression += {"*": "[^/]*", "?": "[^/]"}.get(text, re.escape(text))
        else:
            expression += text
    return expression


PIECES = ["a", "b", ".", "/", "*", "**", "**/", "?", "[ab]", "[^a]", "[.-b]", "/**/"]


@given(
    pattern=st.lists(st.sampled_from(PIECES), max_size=9).map("".join),
    paths=st.lists(st.text("ab./", max_size=14), min_size=1, max_size=8),
)
@example(pattern="*[/b]*c", paths=["b/c"])
@example(pattern="**/a**/b", paths=["a/ab"])
@example(pattern="**/a*b/**/b*.b", paths=["a/ab/aab/b/b.b", "b/ab/b.bb"])
@example(pattern="*/**/a?*b**", paths=["a/b/aab"])
def test_patterns_mean_their_regular_expression(pattern: str, paths: list[str]) -> None:
    expression = re.compile(reference(pattern), re.DOTALL)
    matches = compile_wildcards(pattern)
    assert [matches(path) for path in paths] == [expression.fullmatch(path) is not None for path in paths]


def seconds(work: Callable[[], object]) -> float:
    return processor_seconds(work, enough=SECONDS)


PATTERNS = {
    "stars": "*a" * 60 + "b",
    "components": "*/" * 1000 + "b",
    "deep": "**/a/" * 500 + "b",
    "deep-with-stars": "**/a*a*/" * 300 + "*b*",
    "deep-names": "**/*a" * 500 + "b",
    "deep-inside-names": "a**" * 600 + "b",
    "unaligned": "**a/*" * 400 + "b",
    "classes": "*[^a]" * 400 + "b",
    "classes-and-stars": "*[a-z]*[^/]" * 200 + "!",
    "many-classes": "".join(f"*[^{chr(256 + number)}]" for number in range(64)),
    "long-piece": "*" + "a" * 500 + "b*" + "a" * 500 + "b",
    "long-tail": "*" + "a" * 400,
    "questions": "*" + "?" * 400 + "*b",
    "slashes": "*" + "a/" * 1500 + "b",
    "ending": "**/" + "a*" * 300 + "b/**",
}
PATHS = {
    "same": "a" * LONG,
    "directories": "a/" * (LONG // 2) + "a",
    "names": ("a" * 200 + "/") * (LONG // 201),
    "characters": "".join(map(chr, range(0x4E00, 0x4E00 + 1_000))) * (LONG // 1_000),
    "short": "a/b",
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_patterns_take_linear_time(pattern: str, path: str) -> None:
    matches = compile_wildcards(pattern)
    assert seconds(lambda: matches(path)) < SECONDS
    assert seconds(lambda: IgnoreMatcher.from_patterns([pattern]).may_reinclude_below(path[:4000])) < 2 * SECONDS


@pytest.mark.parametrize("part", ["*", "**", "**/", "?", "[a]", "[", "a", "\\*", "*a", "!", "/", "../", "[^", "[a-"])
def test_long_patterns_are_read_or_refused_in_linear_time(part: str) -> None:
    pattern = part * (LONG // len(part))

    def work() -> None:
        try:
            IgnoreMatcher.from_patterns([pattern])
        except DockerfileError as error:
            assert len(error.message) < 1100

    assert seconds(work) < SECONDS


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a/" * 2048 + "*", "a pattern with wildcards has at most 4,096 characters"),
        ("a" * 513 + "*", "more than 512 characters between wildcards or slashes"),
        ("*" + "?" * 513, "more than 512 characters between wildcards or slashes"),
        ("".join(f"[{chr(256 + number)}]" for number in range(65)), "more than 64 different character classes"),
        ("a[", "a `[` needs a matching `]` with characters between"),
    ],
)
def test_what_is_too_long_is_told(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check_wildcards(pattern)


def test_long_plain_paths_are_no_patterns() -> None:
    assert IgnoreMatcher.from_patterns(["a" * 10_000]).excludes("a" * 10_000)
