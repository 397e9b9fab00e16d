import itertools
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.speed import processor_seconds
from img_core.files.copy import SourceTree, select
from img_core.files.ignore import IgnoreMatcher, IgnoreRule, parse_ignore_file
from img_core.spec.errors import DockerfileError
from img_core.spec.graph import Copy

_TEXT = """a.txt b.md README.md d d/a.txt d/e d/e/c.go d/e/x.md d/f d/f/y node_modules node_modules/m
sub sub/node_modules sub/node_modules/m .dockerignore Dockerfile deep deep/er deep/er/z.txt"""
TREE = _TEXT.split()


def kept(content: str) -> set[str]:
    matcher = IgnoreMatcher(parse_ignore_file(content))
    return {path for path in TREE if not matcher.excludes(path)}


def dropped(content: str) -> set[str]:
    return set(TREE) - kept(content)


D_TREE = {"d", "d/a.txt", "d/e", "d/e/c.go", "d/e/x.md", "d/f", "d/f/y"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("*.txt", {"a.txt"}, id="IG1"),
        pytest.param("**/*.txt", {"a.txt", "d/a.txt", "deep/er/z.txt"}, id="IG2"),
        pytest.param("d", D_TREE, id="IG3-plain"),
        pytest.param("d/", D_TREE, id="IG3-slash"),
        pytest.param("/d", D_TREE, id="IG3-rooted"),
        pytest.param("./d/", D_TREE, id="IG3-dot"),
        pytest.param("*\n!d/e", set(TREE) - {"d/e", "d/e/c.go", "d/e/x.md"}, id="IG4"),
        pytest.param("*\n!d/e/c.go", set(TREE) - {"d/e/c.go"}, id="IG5"),
        pytest.param("d\n!d/e", D_TREE - {"d/e", "d/e/c.go", "d/e/x.md"}, id="IG6"),
        pytest.param("*\n!**/*.md", set(TREE) - {"b.md", "README.md", "d/e/x.md"}, id="IG7"),
        pytest.param("!README.md\n*.md", {"b.md", "README.md"}, id="IG8"),
        pytest.param("node_modules", {"node_modules", "node_modules/m"}, id="IG9-root"),
        pytest.param(
            "**/node_modules",
            {"node_modules", "node_modules/m", "sub/node_modules", "sub/node_modules/m"},
            id="IG9-everywhere",
        ),
        pytest.param("d/*", D_TREE - {"d"}, id="IG10"),
        pytest.param("d/../a.txt", {"a.txt"}, id="IG11"),
        pytest.param("*\n! d", set(TREE) - D_TREE, id="IG12"),
        pytest.param(".\n/\n../a.txt", set(), id="IG13"),
        pytest.param("A.TXT", set(), id="IG15"),
        pytest.param("Dockerfile\n.dockerignore", {"Dockerfile", ".dockerignore"}, id="IG16"),
        pytest.param("\ufeff# no\n # a.txt\n\n  a.txt  \r\n", {"a.txt"}, id="comment-bom-blanks-crlf"),
        pytest.param("[a-b].*", {"a.txt", "b.md"}, id="class"),
        pytest.param("[^a].md", {"b.md"}, id="negated-class"),
        pytest.param("d/?", {"d/e", "d/e/c.go", "d/e/x.md", "d/f", "d/f/y"}, id="question-mark"),
        pytest.param("**", set(TREE), id="double-star"),
        pytest.param("d/**", D_TREE - {"d"}, id="double-star-at-the-end"),
        pytest.param("deep/**/z.txt", {"deep/er/z.txt"}, id="double-star-inside"),
        pytest.param("**.md", {"b.md", "README.md", "d/e/x.md"}, id="double-star-before-text-is-a-suffix"),
        pytest.param("\\a.txt", {"a.txt"}, id="backslash-quotes"),
    ],
)
def test_pattern_removes(content: str, expected: set[str]) -> None:
    assert dropped(content) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("a\n!", 'illegal exclusion pattern: "!"', id="IG14-bang"),
        pytest.param("a\n[a", "syntax error in pattern: `[a`", id="IG14-class"),
        pytest.param("a\nb\\", "syntax error in pattern: `b\\`", id="trailing-backslash"),
        pytest.param("a\n[]a]", "syntax error in pattern: `[]a]`", id="empty-class"),
        pytest.param("a\n[a-]", "syntax error in pattern: `[a-]`", id="open-range"),
    ],
)
def test_malformed_pattern_is_refused_with_its_line(content: str, message: str) -> None:
    with pytest.raises(DockerfileError) as error:
        parse_ignore_file(content)
    assert (error.value.message, error.value.line) == (message, 2)


def test_deciding_rule_is_named_with_its_line() -> None:
    matcher = IgnoreMatcher(parse_ignore_file("# c\n*.txt\nd\n!d/e\n"))
    assert matcher.rule_for("d/e/c.go") == IgnoreRule("d/e", negated=True, line=4)
    assert str(matcher.rule_for("d/f")) == "d"
    assert matcher.rule_for("other") is None


def test_bytes_and_text_get_the_same_verdict() -> None:
    matcher = IgnoreMatcher(parse_ignore_file("caf?\n\udcff*".encode("utf-8", "surrogateescape")))
    assert matcher.excludes("café".encode())
    assert matcher.excludes(b"\xffx")
    assert not matcher.excludes(b"cafe\xcc\x81")  # two characters


def test_excluded_directory_is_entered_only_for_rules_that_could_bring_something_back() -> None:
    matcher = IgnoreMatcher.from_patterns(["*", "!d/e/*.go", "!x*/y"])
    assert matcher.may_reinclude_below("d")
    assert matcher.may_reinclude_below("d/e")
    assert matcher.may_reinclude_below("xx")
    assert not matcher.may_reinclude_below("d/f")
    assert not matcher.may_reinclude_below("node_modules")
    assert IgnoreMatcher.from_patterns(["*", "!**/a"]).may_reinclude_below("anything/at/all")
    assert not IgnoreMatcher.from_patterns(["*"]).may_reinclude_below("d")


def test_exclude_flags_keep_a_hash_as_text() -> None:
    assert IgnoreMatcher.from_patterns(["#x"]).excludes("#x")


def test_very_deep_path_is_decided() -> None:
    assert IgnoreMatcher.from_patterns(["a"]).excludes("/".join(["a"] * 20_000))


_PATTERN_PARTS = st.sampled_from(["a", "b", "*", "**", "?", "a*", "*b", "*a*", "[ab]", "a.b", "**a"])
_PATTERNS = st.tuples(st.booleans(), st.lists(_PATTERN_PARTS, min_size=1, max_size=3)).map(
    lambda pair: ("!" if pair[0] else "") + "/".join(pair[1])
)


@given(
    patterns=st.lists(_PATTERNS, max_size=6),
    paths=st.lists(st.lists(st.text("ab.", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join), max_size=6),
)
def test_fast_matcher_agrees_with_the_definition(patterns: list[str], paths: list[str]) -> None:
    matcher = IgnoreMatcher.from_patterns(patterns)
    rules = [(rule.pattern, rule.negated) for rule in matcher.rules]
    for path in paths:
        assert matcher.excludes(path) is excluded(rules, path)


def excluded(rules: list[tuple[str, bool]], path: str) -> bool:
    """Decide as moby/patternmatcher does in a walk: rule by rule for each directory on the way, then for the path."""
    verdict = False
    counted = [False] * len(rules)
    for end in [match.start() for match in re.finditer("/", path)] + [len(path)]:
        verdict, inherited, counted = False, counted, [False] * len(rules)
        for index, (pattern, negated) in enumerate(rules):
            counted[index] = inherited[index] or (negated == verdict and matches(pattern, path[:end]))
            verdict = not negated if counted[index] else verdict
    return verdict


#: A tree in which names meet the patterns below often.
NODES = [path for depth in range(1, 4) for path in map("/".join, itertools.product(("a", "b", "ab"), repeat=depth))]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    patterns=st.lists(_PATTERNS, min_size=1, max_size=6),
    files=st.sets(st.sampled_from(NODES), max_size=8),
    directories=st.sets(st.sampled_from(NODES), max_size=4),
    flag=st.booleans(),
)
def test_a_copy_takes_what_a_walk_of_buildkit_takes(
    tmp_path_factory: pytest.TempPathFactory, patterns: list[str], files: set[str], directories: set[str], flag: bool
) -> None:
    """Both as an ignore file of the context and as ``--exclude``: fsutil's walk and its copy keep the same."""
    top = tmp_path_factory.mktemp("walk")
    for path in directories:
        (top / path).mkdir(parents=True, exist_ok=True)
    for path in sorted(files, key=len, reverse=True):
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        if not (top / path).exists():
            (top / path).write_text("")
    matcher = IgnoreMatcher.from_patterns(patterns)
    rules = [(rule.pattern, rule.negated) for rule in matcher.rules]
    expected = set()
    for file_path in top.rglob("*"):
        name = str(file_path.relative_to(top))
        if not excluded(rules, name):  # and with it the directories on the way
            expected |= {name, *(str(parent) for parent in Path(name).parents)} - {"."}
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        tree = SourceTree(fd, ignore=None if flag else matcher)
        (match,) = select(tree, Copy(0, (".",), "/", exclude=tuple(patterns) if flag else ())).matches
    finally:
        os.close(fd)
    found = set()
    for folder in match.folders:
        name = folder.name.decode()
        found |= {name, *(f"{name}/{file.decode()}".lstrip("/") for file, _ in folder.files)} - {""}
    assert found == expected


@pytest.mark.parametrize(
    ("patterns", "kept_paths"),
    [
        pytest.param(["d/f", "!d"], {"d", "d/a.txt", "d/e", "d/e/c.go", "d/e/x.md"}, id="not-tried-for-what-is-not-excluded"),
        pytest.param(["d*", "!d/a.txt", "d"], {"d/a.txt"}, id="not-tried-for-what-is-excluded"),
        pytest.param(["d", "!d/e", "d/e/x.md", "!d/e"], {"d/e", "d/e/c.go"}, id="second-time-not-tried-for-the-directory"),
        pytest.param(["d", "!d/e", "d/e/x.md"], {"d/e", "d/e/c.go"}, id="plain-after-brought-back"),
        pytest.param(["**", "!d", "d/e"], {"d", "d/a.txt", "d/f", "d/f/y"}, id="brought-back-and-excluded-again"),
    ],
)  # fmt: skip
def test_patterns_are_tried_in_order_on_the_way_down(patterns: list[str], kept_paths: set[str]) -> None:
    matcher = IgnoreMatcher.from_patterns(patterns)
    assert {path for path in D_TREE if not matcher.excludes(path)} == kept_paths


def matches(pattern: str, path: str) -> bool:
    """Match a whole path: slow, and nothing of the code under test. Two stars before plain text mean "ends with"."""
    if pattern.startswith("**") and not pattern.startswith("**/") and not set("*?[") & set(pattern[2:]):
        return path.endswith(pattern[2:])
    return matches_rest(pattern, path)


def matches_rest(pattern: str, path: str) -> bool:
    if not pattern:
        return not path
    if pattern.startswith("**"):
        rest = pattern[2:].removeprefix("/")
        starts = [0] + [place + 1 for place, char in enumerate(path) if char == "/"]
        return not rest or any(matches_rest(rest, path[start:]) for start in starts)
    if pattern[0] == "*":
        ends = range((path + "/").index("/") + 1)
        return any(matches_rest(pattern[1:], path[end:]) for end in ends)
    if pattern[0] == "[":
        inside, _, rest = pattern[1:].partition("]")
        return bool(path) and path[0] in inside and matches_rest(rest, path[1:])
    fits = bool(path) and (path[0] == pattern[0] or (pattern[0] == "?" and path[0] != "/"))
    return fits and matches_rest(pattern[1:], path[1:])


@given(content=st.text())
def test_any_text_gives_rules_or_a_dockerfile_error(content: str) -> None:
    try:
        matcher = IgnoreMatcher(parse_ignore_file(content))
    except DockerfileError:
        return
    matcher.excludes("a/b")
    matcher.may_reinclude_below("a/b")


def test_fifty_thousand_paths_and_two_hundred_patterns_take_half_a_second() -> None:
    patterns = [f"**/node{i}" for i in range(40)] + [f"**/*.e{i}" for i in range(40)]
    patterns += [f"dir{i}/sub/*" for i in range(40)] + [f"*foo{i}*" for i in range(30)]
    patterns += [f"a{i}/**/b{i}*.txt" for i in range(30)] + [f"!x{i}/y?" for i in range(20)]
    paths = [f"d{i % 40}/s{i % 700}/name{i}.py".encode() for i in range(50_000)]

    def work() -> None:
        matcher = IgnoreMatcher.from_patterns(patterns)
        assert not any(map(matcher.excludes, paths))

    elapsed = processor_seconds(work, enough=0.5)
    assert elapsed < 0.5, f"{elapsed:.3f} s; on a quiet machine it takes 0.2 s"
