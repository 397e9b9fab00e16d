"""What COPY's sources mean (docs/reference/dockerfile-cases.md)."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from img_core.files.copy import Reading, Selection, SourceTree, digest, known_digest, select
from img_core.files.ignore import IgnoreMatcher, parse_ignore_file
from img_core.spec.errors import DockerfileError, ImgError, NotFoundError
from img_core.spec.graph import Copy


class Context:
    """A build context on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def write(self, *names: str, content: str = "") -> None:
        for name in names:
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content or name)

    def link(self, name: str, target: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def tree(self, ignore: str | None = None, *, keep_owner: bool = False) -> SourceTree:
        matcher = IgnoreMatcher(parse_ignore_file(ignore)) if ignore is not None else None
        return SourceTree(self.fd, ignore=matcher, ignore_name=".dockerignore", keep_owner=keep_owner)

    def select(
        self, *sources: str, ignore: str | None = None, exclude: tuple[str, ...] = (), parents: bool = False
    ) -> Selection:
        return select(self.tree(ignore), Copy(0, sources, "/x/", exclude=exclude, parents=parents))

    def names(
        self, *sources: str, ignore: str | None = None, exclude: tuple[str, ...] = (), parents: bool = False
    ) -> list[str]:
        return names(self.select(*sources, ignore=ignore, exclude=exclude, parents=parents))

    def digest(self, *sources: str, ignore: str | None = None, parents: bool = False) -> str:
        return digest(self.select(*sources, ignore=ignore, parents=parents))


def names(selection: Selection) -> list[str]:
    """What would appear below the destination; directories with a trailing slash."""
    found = []
    for match in selection.matches:
        found += [name.decode() + "/" for name, _ in match.parents]
        if not match.folders:
            found.append(match.name.decode())
        for folder in match.folders:
            name = os.fsdecode(folder.name)
            if name:
                found.append(name + "/")
            found += [(name + "/" if name else "") + os.fsdecode(file) for file, _ in folder.files]
    return found


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    found = Context(tmp_path)
    yield found
    os.close(found.fd)


@pytest.fixture
def usual(context: Context) -> Context:
    """The context of the examples."""
    context.write("a.txt", "b.txt", "dir/f1", "dir/sub/f2")
    context.link("dir/lnk", "f1")
    (context.path / "dir/empty").mkdir()
    return context


ALL_OF_DIR = ["f1", "lnk", "empty/", "sub/", "sub/f2"]


class TestPlainSources:
    @pytest.mark.parametrize("source", ["dir", "dir/", "dir/.", "./dir//", "/dir", "../dir", "x/../dir"])
    def test_a_directory_means_its_content(self, usual: Context, source: str) -> None:
        assert usual.names(source) == ALL_OF_DIR

    @pytest.mark.parametrize("source", ["a.txt", "/a.txt", "../a.txt", "a.txt/", "dir/../a.txt"])
    def test_sources_cannot_leave_the_context(self, usual: Context, source: str) -> None:
        assert usual.names(source) == ["a.txt"]

    def test_a_link_to_a_file_is_followed_and_keeps_its_own_name(self, usual: Context) -> None:
        usual.link("flnk", "a.txt")
        (match,) = usual.select("flnk").matches
        assert (match.name, match.path) == (b"flnk", b"a.txt")

    def test_a_link_to_a_directory_means_the_content_of_that(self, usual: Context) -> None:
        usual.link("dlnk", "dir")
        assert usual.names("dlnk") == ALL_OF_DIR

    def test_absolute_links_are_resolved_inside_the_tree(self, usual: Context) -> None:
        usual.link("in", "/dir/sub")
        usual.link("up", "../../../../dir/sub")
        assert usual.names("in") == usual.names("up") == ["f2"]

    def test_a_link_to_the_host_is_not_found(self, usual: Context) -> None:
        usual.link("abs", "/etc/passwd")
        with pytest.raises(NotFoundError, match='"/abs": not found'):
            usual.select("abs")

    def test_links_on_the_way_to_a_source_are_followed(self, usual: Context) -> None:
        usual.link("d", "dir")
        assert usual.names("d/sub/f2") == ["f2"]

    def test_a_circle_of_links_is_an_error(self, usual: Context) -> None:
        usual.link("one", "two")
        usual.link("two", "one")
        with pytest.raises(ImgError, match="too many links"):
            usual.select("one")

    def test_a_missing_source_names_similar_ones(self, usual: Context) -> None:
        with pytest.raises(NotFoundError, match='"/dir/sup": not found in the build context') as caught:
            usual.select("dir/sup")
        assert caught.value.hint == "did you mean `dir/sub`?"

    def test_an_empty_source_is_the_whole_context_with_a_warning(self, usual: Context) -> None:
        selection = usual.select("")
        assert "a.txt" in names(selection)
        assert selection.warnings

    def test_names_that_are_no_text_are_found(self, context: Context) -> None:
        Path(os.fsdecode(bytes(context.path) + b"/\xff\xfe")).write_text("")
        assert context.select(os.fsdecode(b"\xff\xfe")).matches[0].name == b"\xff\xfe"


class TestPatterns:
    def test_star_matches_dot_files_and_opens_directories(self, usual: Context) -> None:
        usual.write(".hidden")
        assert usual.names("*") == [".hidden", "a.txt", "b.txt", *ALL_OF_DIR]

    def test_directories_and_files_are_flattened_together(self, context: Context) -> None:
        context.write("d1/a", "d2/b", "d3")
        assert context.names("d*") == ["a", "b", "d3"]

    def test_brackets_are_a_pattern(self, context: Context) -> None:
        context.write("arr[0].txt")
        assert context.names("arr[[]0].txt") == ["arr[0].txt"]
        assert context.names("arr[0].txt") == []

    def test_a_backslash_quotes(self, context: Context) -> None:
        context.write("arr[0].txt", "a*")
        assert context.names("arr\\[0].txt") == ["arr[0].txt"]
        assert context.names("a\\*") == ["a*"]

    def test_two_stars_are_one_without_parents(self, context: Context) -> None:
        context.write("f", "one/f", "one/two/f")
        assert [match.path for match in context.select("**/f").matches] == [b"one/f"]

    def test_a_pattern_may_match_nothing_with_a_warning(self, usual: Context) -> None:
        selection = usual.select("a.txt", "*.zzz")
        assert names(selection) == ["a.txt"]
        assert selection.warnings == ("`*.zzz` matches nothing in the build context",)

    @pytest.mark.parametrize("source", ["nope/*", "nope/*/*", "dir/nope/f?", "/nope/../nope/x*", "dangling/*"])
    @pytest.mark.parametrize("base", ["", "*/./"])
    def test_what_stands_before_the_first_wildcard_must_be_there(self, usual: Context, source: str, base: str) -> None:
        usual.link("dangling", "nowhere")
        with pytest.raises(NotFoundError, match="not found in the build context"):
            usual.select(source + "/./a" if base else source, parents=bool(base))

    def test_a_file_before_a_wildcard_holds_nothing(self, usual: Context) -> None:
        assert usual.names("a.txt/*") == []

    def test_an_ignored_directory_before_a_wildcard_is_not_found(self, usual: Context) -> None:
        with pytest.raises(NotFoundError, match=r'"/dir": not found .* line 1 of `.dockerignore`'):
            usual.select("dir/*", ignore="dir\n")

    def test_links_between_pattern_and_file_are_not_followed(self, usual: Context) -> None:
        usual.link("dlnk", "dir")
        assert [match.path for match in usual.select("*/f1").matches] == [b"dir/f1"]

    def test_a_malformed_pattern_is_an_error(self, usual: Context) -> None:
        with pytest.raises(DockerfileError, match="syntax error in pattern"):
            usual.select("[a")


class TestExclude:
    def test_patterns_are_anchored_in_the_directory(self, context: Context) -> None:
        context.write("src/a.txt", "src/b.md", "src/x/c.txt")
        assert context.names("src", exclude=("*.txt",)) == ["b.md", "x/", "x/c.txt"]
        assert context.names("src", exclude=("**/*.txt",)) == ["b.md", "x/"]

    def test_negation_brings_back(self, context: Context) -> None:
        context.write("src/x/a", "src/y")
        assert context.names(".", exclude=("src", "!src/x")) == ["src/", "src/x/", "src/x/a"]

    def test_matches_of_a_pattern_are_filtered_too(self, context: Context) -> None:
        context.write("home.txt", "home.md")
        assert context.names("hom*", exclude=("*.txt",)) == ["home.md"]

    def test_a_named_directory_is_not_excluded_by_its_own_name(self, context: Context) -> None:
        context.write("src/src", "src/b")
        assert context.names("src", exclude=("src",)) == ["b"]


class TestParents:
    def test_the_path_is_kept_behind_the_pivot(self, context: Context) -> None:
        context.write("x/y/a.txt", "x/y/b.md", "src/x/f")
        assert context.names("./x/./y/*.txt", parents=True) == ["y/", "y/a.txt"]
        assert context.names("src/./x", parents=True) == ["x/", "x/f"]

    @pytest.mark.parametrize("pattern", ["**/" * 40 + "f", "**/a/" * 12 + "**/f", "**/*/" * 12 + "f"])
    def test_many_ways_to_one_file_find_it_once_and_quickly(self, context: Context, pattern: str) -> None:
        name = "a/" * 30 + "f"
        context.write(name)
        assert context.names(pattern, parents=True)[-1:] == [name]
        assert sum(found == name for found in context.names(pattern, parents=True)) == 1

    def test_two_stars_need_no_recursion(self, context: Context) -> None:
        name = "a/" * 300 + "f"
        context.write(name)
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(len(inspect.stack()) + 150)
        try:
            assert context.names("**/f", parents=True)[-1:] == [name]
        finally:
            sys.setrecursionlimit(limit)

    def test_two_stars_span_directories(self, context: Context) -> None:
        context.write("src/a.txt", "src/deep/er/b.txt", "src/c.md")
        assert sorted(set(context.names("./src/**/*.txt", parents=True))) == [
            "src/",
            "src/a.txt",
            "src/deep/",
            "src/deep/er/",
            "src/deep/er/b.txt",
        ]

    def test_missing_sources_are_an_error_and_unmatched_patterns_are_not(self, context: Context) -> None:
        context.write("src/a")
        assert context.names("src/*.nope", parents=True) == context.names("nope/*", parents=True) == []
        with pytest.raises(NotFoundError):
            context.select("src/nope", parents=True)


class TestIgnoreFile:
    def test_an_ignored_source_names_the_line(self, usual: Context) -> None:
        with pytest.raises(NotFoundError, match=r'"/a.txt": not found .* line 2 of `.dockerignore`: `\*.txt`'):
            usual.select("a.txt", ignore="# text\n*.txt\n")

    def test_rules_apply_to_the_path_in_the_context(self, usual: Context) -> None:
        assert usual.names("dir", ignore="dir/sub\n**/lnk\n") == ["f1", "empty/"]

    def test_negation_below_an_ignored_directory(self, context: Context) -> None:
        context.write("d/e/c.go", "d/e/x", "d/f/y", "z")
        assert context.names(".", ignore="*\n!d/e/c.go\n") == ["d/", "d/e/", "d/e/c.go"]
        assert context.names("d", ignore="d\n!d/e\n") == ["e/", "e/c.go", "e/x"]

    def test_an_ignored_directory_without_survivors_is_not_found(self, usual: Context) -> None:
        with pytest.raises(NotFoundError, match="excluded by line 1"):
            usual.select("dir", ignore="dir\n!dir/nothing\n")

    def test_ignored_contents_leave_an_empty_directory(self, context: Context) -> None:
        context.write("d/a", "d/b")
        assert context.names(".", ignore="d/*\n") == ["d/"]

    def test_a_link_to_an_ignored_file_is_not_found(self, usual: Context) -> None:
        usual.link("l", "a.txt")
        with pytest.raises(NotFoundError):
            usual.select("l", ignore="a.txt\n")

    def test_patterns_pass_over_ignored_files(self, usual: Context) -> None:
        assert usual.names("*.txt", ignore="b*\n") == ["a.txt"]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_an_unreadable_directory_only_matters_if_it_is_not_ignored(self, usual: Context) -> None:
        (usual.path / "dir/sub").chmod(0)
        try:
            assert "f1" in usual.names("dir", ignore="dir/sub\n")
            with pytest.raises(ImgError, match="cannot read `/dir/sub` in the build context: permission denied"):
                usual.select("dir")
        finally:
            (usual.path / "dir/sub").chmod(0o755)


class TestDigest:
    def test_hard_links_count_as_far_as_they_are_kept(self, context: Context) -> None:
        context.write("one/d/a", "two/d/a", "one/d/b", "two/d/b", content="x")
        assert context.digest("one") == context.digest("two")
        (context.path / "two/d/b").unlink()
        os.link(context.path / "two/d/a", context.path / "two/d/b")
        assert context.digest("one") != context.digest("two")
        assert context.digest("one/d/a", "one/d/b") == context.digest("two/d/a", "two/d/b")
        assert context.digest("one/d/?") == context.digest("two/d/?")
        digest = partial(context.digest, parents=True)
        assert digest("one/./d/?") != digest("two/./d/?")
        assert digest("one/./d/a", "one/./d/b") == digest("two/./d/a", "two/./d/b")

    def test_times_and_owners_do_not_count(self, usual: Context) -> None:
        before = usual.digest(".")
        os.utime(usual.path / "a.txt", (1, 1))
        os.utime(usual.path / "dir", (1, 1))
        assert usual.digest(".") == before

    @pytest.mark.parametrize(
        "change",
        [
            lambda path: (path / "dir/f1").write_text("other"),
            lambda path: (path / "dir/f1").chmod(0o755),
            lambda path: (path / "dir/f1").rename(path / "dir/f9"),
            lambda path: (path / "dir/sub/new").mkdir(),
            lambda path: (path / "dir/sub").chmod(0o700),
            lambda path: ((path / "dir/lnk").unlink(), (path / "dir/lnk").symlink_to("sub")),
        ],
    )
    def test_what_is_copied_counts(self, usual: Context, change: object) -> None:
        before = usual.digest("dir")
        assert callable(change)
        change(usual.path)
        assert usual.digest("dir") != before

    def test_what_is_not_copied_does_not_count(self, usual: Context) -> None:
        before = usual.digest("dir", ignore="**/*.log\n")
        usual.write("c.txt", "dir/x.log")
        (usual.path / "dir").chmod(0o700)
        assert usual.digest("dir", ignore="**/*.log\n") == before

    def test_spelling_does_not_count_but_names_do(self, usual: Context) -> None:
        usual.write("c.txt", content="a.txt")
        assert usual.digest("./dir//sub") == usual.digest("dir/sub")
        assert usual.digest("a.txt") != usual.digest("c.txt")

    def test_a_link_to_an_equal_file_gives_an_equal_digest(self, usual: Context) -> None:
        usual.write("same", content="a.txt")
        usual.link("l", "a.txt")
        before = usual.digest("l")
        (usual.path / "l").unlink()
        usual.link("l", "same")
        assert usual.digest("l") == before

    def test_known_files_are_not_read_again_and_young_ones_not_remembered(self, usual: Context) -> None:
        class Hashes(dict[int, str]):
            def get(self, info: os.stat_result) -> str | None:  # type: ignore[override]
                return super().get(info.st_ino)

            def put(self, info: os.stat_result, value: str) -> None:
                self[info.st_ino] = value

            def save(self) -> None:
                raise AssertionError("that is for who makes the reading")

        hashes = Hashes()
        young = replace(usual.select("a.txt"), reading=Reading(hashes))
        assert known_digest(young) is None
        expected = digest(young)
        assert known_digest(young) == expected, "it was read for this"
        assert not hashes, "written a moment ago: the next change might not show"
        inode = os.stat(usual.path / "a.txt").st_ino
        hashes[inode] = "0" * 64
        assert known_digest(replace(young, reading=Reading(hashes))) not in (None, expected)

    def test_a_file_that_changes_after_the_look_is_an_error(self, usual: Context) -> None:
        selection = usual.select("a.txt")
        (usual.path / "a.txt").write_text("changed")
        with pytest.raises(ImgError, match=r"`/a\.txt` in the build context changed while it was read"):
            digest(selection)

    def test_a_fifo_is_not_opened(self, context: Context) -> None:
        os.mkfifo(context.path / "pipe")
        assert context.digest(".").startswith("sha256:")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_an_unreadable_file_is_named(self, usual: Context) -> None:
        (usual.path / "dir/f1").chmod(0)
        with pytest.raises(ImgError, match="cannot read `/dir/f1` in the build context: permission denied"):
            usual.digest("dir")

    def test_owners_count_where_they_are_copied(self, usual: Context) -> None:
        kept = select(usual.tree(keep_owner=True), Copy(0, ("a.txt",), "/x/"))
        assert digest(kept) != usual.digest("a.txt")


PARTS = st.sampled_from(["a", "b", "c.txt", "d"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
PATTERN_PARTS = st.sampled_from(["a", "b", "*", "**", "*.txt", "d", "?", "[ab]"])
RULES = st.builds(
    lambda negated, parts: ("!" if negated else "") + "/".join(parts),
    st.booleans(),
    st.lists(PATTERN_PARTS, min_size=1, max_size=3),
)


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PATHS, max_size=12), st.lists(RULES, max_size=4), st.booleans())
def test_what_an_ignore_file_leaves_is_what_a_naive_filter_leaves(
    paths: list[str], rules: list[str], exclude: bool
) -> None:
    with tempfile.TemporaryDirectory() as base:
        context = Context(Path(base))
        for path in paths:
            with contextlib.suppress(OSError):  # a file stands where this one needs a directory
                context.write(path)
        matcher = IgnoreMatcher.from_patterns(rules)
        entries = {str(path.relative_to(base)): path.is_dir() for path in Path(base).rglob("*")}
        kept = {path for path in entries if not matcher.excludes(path)}
        kept |= {path for path in entries if entries[path] and any(other.startswith(path + "/") for other in kept)}
        expected = {path + "/" if entries[path] else path for path in kept}
        if exclude:
            selection = select(context.tree(), Copy(0, (".",), "/", exclude=tuple(rules)))
        else:
            selection = select(SourceTree(context.fd, ignore=matcher), Copy(0, (".",), "/"))
        assert set(names(selection)) == expected
        os.close(context.fd)
