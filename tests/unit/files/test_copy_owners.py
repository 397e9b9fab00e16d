"""Whose copied files are, and with which modes (docs/reference/dockerfile-cases.md, CP)."""

from __future__ import annotations

import os

import pytest
from copy_bench import Bench

from img_core.archives import unpacking
from img_core.files.copy import SourceTree, apply, select
from img_core.files.ownership import OWNER_ATTRIBUTE
from img_core.spec.errors import NotFoundError, UsageError
from img_core.spec.graph import Copy, WriteFile


class TestParents:
    def test_paths_and_modes_of_parents_are_kept(self, bench: Bench) -> None:
        bench.source("x/y/a.txt"), bench.source("x/y/b.md")
        (bench.context / "x/y").chmod(0o710)
        bench.copy("./x/./y/*.txt", to="/p/", parents=True)
        bench.copy("x/y/b.md", to="/q", parents=True)
        assert bench.files() == ["p", "p/y", "p/y/a.txt", "q", "q/x", "q/x/y", "q/x/y/b.md"]
        assert bench.mode("p/y") == bench.mode("q/x/y") == 0o710

    def test_a_directory_is_copied_with_its_path(self, bench: Bench) -> None:
        bench.source("src/x/f")
        bench.copy("src/./x", to="/p", parents=True)
        assert bench.files() == ["p", "p/x", "p/x/f"]

    @pytest.mark.parametrize("sources", [("src/*/f",), ("src/**/f",), ("src/one/../*/f",), ("src/**/f", "src/*/f")])
    def test_hard_links_are_kept_across_what_one_pattern_finds(self, bench: Bench, sources: tuple[str, ...]) -> None:
        first = bench.source("src/one/f")
        for name in ("two", "three"):
            (bench.context / "src" / name).mkdir()
            os.link(first, bench.context / "src" / name / "f")
        bench.copy(*sources, to="/p/", parents=True)
        assert all(
            (bench.root / "p/src/one/f").samefile(bench.root / "p/src" / name / "f") for name in ("two", "three")
        )

    def test_hard_links_of_a_directory_that_is_found_twice_are_kept(self, bench: Bench) -> None:
        first = bench.source("s/d/d/x")
        (bench.context / "s/d/z").mkdir()
        os.link(first, bench.context / "s/d/z/y")
        bench.copy("s/**/d", to="/p/", parents=True)
        assert (bench.root / "p/s/d/d/x").samefile(bench.root / "p/s/d/z/y")

    @pytest.mark.parametrize(
        ("sources", "parents"), [(("a/f", "b/f2"), True), (("*/f*",), False), (("a/f", "b/f2"), False)]
    )
    def test_hard_links_are_not_kept_across_other_sources(
        self, bench: Bench, sources: tuple[str, ...], parents: bool
    ) -> None:
        (bench.context / "b").mkdir()
        os.link(bench.source("a/f"), bench.context / "b/f2")
        bench.copy(*sources, to="/p/", parents=parents)
        found = [path for path in bench.root.rglob("*") if path.is_file()]
        assert [path.stat().st_nlink for path in found] == [1, 1]

    @pytest.mark.parametrize("source", ["a/l", "a/l/", "a/*", "a/?", "**/l", "a/./l"])
    @pytest.mark.parametrize("target", ["f", "../d", "/etc/passwd", "nowhere"])
    def test_a_link_is_copied_itself(self, bench: Bench, source: str, target: str) -> None:
        bench.source("d/f")
        (bench.context / "a").mkdir()
        (bench.context / "a/l").symlink_to(target)
        bench.copy(source, to="/o/", parents=True)
        assert os.readlink(bench.root / ("o/l" if "./" in source else "o/a/l")) == target

    def test_links_before_a_pivot_are_followed(self, bench: Bench) -> None:
        bench.source("d/f")
        (bench.context / "l").symlink_to("d")
        bench.copy("l/./f", to="/o/", parents=True)
        bench.copy("l*/./f", to="/p/", parents=True)
        assert bench.files() == ["o", "o/f", "p", "p/f"]

    def test_an_unmatched_pattern_makes_only_the_destination(self, bench: Bench) -> None:
        bench.source("src/a")
        bench.copy("src/*.nope", to="/p/", parents=True)
        assert bench.files() == ["p"]


class TestOwners:
    @pytest.mark.parametrize(
        ("text", "ids"),
        [("5", (5, 5)), ("5:6", (5, 6)), ("u", (1234, 77)), ("u:g", (1234, 99)), (":g", (0, 99)), ("u:", (1234, 0))],
    )
    def test_spellings(self, users: Bench, text: str, ids: tuple[int, int]) -> None:
        users.copy("a.txt", to="/x/y/", owner=text)
        assert [users.owner(name) for name in ("x", "x/y", "x/y/a.txt")] == [ids] * 3

    def test_unknown_names_are_errors_that_name_the_file(self, users: Bench) -> None:
        with pytest.raises(NotFoundError, match="unable to find user nosuch: no matching entries in passwd file"):
            users.copy("a.txt", to="/x", owner="nosuch")
        with pytest.raises(NotFoundError, match="unable to find group nosuch: no matching entries in group file"):
            users.copy("a.txt", to="/x", owner="0:nosuch")
        assert not (users.root / "x").exists()

    def test_links_get_the_owner_too(self, bench: Bench) -> None:
        (bench.context / "dir").mkdir()
        (bench.context / "dir/l").symlink_to("nowhere")
        bench.copy("dir", to="/x", owner="7:8")
        assert bench.owner("x/l") == (7, 8)

    def test_a_context_belongs_to_root(self, bench: Bench) -> None:
        bench.source("f")
        bench.copy("f", to="/x/")
        assert bench.owner("x/f") == (0, 0)

    def test_a_stage_brings_its_owners_and_attributes(self, bench: Bench) -> None:
        os.setxattr(bench.source("dir/f"), OWNER_ATTRIBUTE, b"3:4")
        os.setxattr(bench.context / "dir/f", "user.mine", b"1")
        (bench.context / "dir/l").symlink_to("f")
        context = os.open(bench.context, os.O_RDONLY | os.O_DIRECTORY)
        root = os.open(bench.root, os.O_RDONLY | os.O_DIRECTORY)
        tree = SourceTree(context, keep_owner=True, owners={b"dir/l": (5, 6)})
        action = Copy(0, ("dir",), "/x")
        apply([action], [select(tree, action)], root, owners=bench.owners, archives=unpacking)
        assert (bench.owner("x/f"), bench.owner("x/l"), bench.owner("x")) == ((3, 4), (5, 6), (0, 0))
        assert os.getxattr(bench.root / "x/f", "user.mine") == b"1"
        os.close(context)
        os.close(root)


class TestModes:
    def test_octal_modes_reach_new_parents(self, bench: Bench) -> None:
        bench.source("a.txt")
        bench.copy("a.txt", to="/p/q/", mode="700")
        assert [bench.mode(name) for name in ("p", "p/q", "p/q/a.txt")] == [0o700] * 3

    @pytest.mark.parametrize("text", ["4755", "2755", "1755", "7755"])
    def test_set_id_and_sticky_bits_do_not(self, bench: Bench, text: str) -> None:
        bench.source("f"), bench.source("dir/sub/f")
        bench.copy("f", to="/suid/f", mode=text)
        bench.copy("dir", to="/made/top", mode=text)
        bench.run(WriteFile("EOF", b"x", "/here/", mode=text))
        assert [bench.mode(name) for name in ("suid", "made", "made/top", "here")] == [0o755] * 4
        names = ("suid/f", "made/top/sub", "made/top/sub/f", "here/EOF")
        assert [bench.mode(name) for name in names] == [int(text, 8)] * 4

    def test_symbolic_modes_do_not(self, bench: Bench) -> None:
        bench.source("a.txt")
        bench.copy("a.txt", to="/p/q/", mode="u=rwx,go=")
        assert [bench.mode(name) for name in ("p", "p/q", "p/q/a.txt")] == [0o755, 0o755, 0o700]

    def test_octal_modes_make_directories_blind_with_a_warning(self, bench: Bench) -> None:
        bench.source("dir/sub/f")
        bench.copy("dir", to="/x/", mode="0640")
        for name in ("x", "x/sub", "x/sub/f"):
            assert bench.mode(name) == 0o640
            (bench.root / name).chmod(0o755)
        assert len(bench.warnings) == 1

    def test_a_capital_x_tells_directories_and_programs(self, bench: Bench) -> None:
        bench.source("dir/sub/plain", mode=0o600), bench.source("dir/sub/program", mode=0o700)
        bench.copy("dir", to="/x/", mode="u=rwX,go=rX")
        modes = [bench.mode(name) for name in ("x/sub", "x/sub/plain", "x/sub/program")]
        assert modes == [0o755, 0o644, 0o755]

    @pytest.mark.parametrize("text", ["99", "10000", "zz", "u=rwz", "u+", "0x7"])
    def test_nonsense_is_refused(self, bench: Bench, text: str) -> None:
        bench.source("a.txt")
        if text == "u+":  # chmod(1) takes it and does nothing
            bench.copy("a.txt", to="/x", mode=text)
            return
        with pytest.raises(UsageError, match="invalid chmod parameter"):
            bench.copy("a.txt", to="/x", mode=text)
