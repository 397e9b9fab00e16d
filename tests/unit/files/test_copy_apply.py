"""What COPY, ADD, WORKDIR and heredocs do to a root file system (docs/reference/dockerfile-cases.md, CP, AD, WU)."""

from __future__ import annotations

import errno
import io
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from img_core.archives import unpacking
from img_core.files import faults, fs
from img_core.files.copy import SourceTree, apply, select
from img_core.files.ownership import OWNER_ATTRIBUTE, Owners
from img_core.spec.errors import ArchiveError, ImgError, NotFoundError, UsageError
from img_core.spec.graph import Copy, FileAction, MakeDirectory, WriteFile

NOW = 1_700_000_000_000_000_000


class Bench:
    """A context and a root; nothing needs privileges because owners are recorded."""

    def __init__(self, base: Path) -> None:
        self.context = base / "context"
        self.root = base / "root"
        self.outside = base / "outside"
        for path in (self.context, self.root, self.outside):
            path.mkdir()
        self.owners = Owners("single")
        self.warnings: list[str] = []

    def run(self, *actions: FileAction) -> None:
        root = os.open(self.root, os.O_PATH | os.O_DIRECTORY)
        context = os.open(self.context, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for action in actions:
                tree = SourceTree(context)
                selection = select(tree, action) if isinstance(action, Copy) else None
                self.warnings += apply([action], [selection], root, owners=self.owners, now_ns=NOW, archives=unpacking)
        finally:
            os.close(root)
            os.close(context)

    def copy(self, *sources: str, to: str, **options: object) -> None:
        self.run(Copy(0, sources, to, **options))  # type: ignore[arg-type]

    def add(self, *sources: str, to: str, **options: object) -> None:
        self.run(Copy(0, sources, to, unpack=True, add=True, **options))  # type: ignore[arg-type]

    def source(self, name: str, content: str = "", mode: int = 0o644) -> Path:
        return write(self.context / name, content or name, mode)

    def target(self, name: str, content: str = "", mode: int = 0o644) -> Path:
        return write(self.root / name, content or "old", mode)

    def text(self, name: str) -> str:
        path = self.root / name
        assert not path.is_symlink()
        return path.read_text()

    def mode(self, name: str) -> int:
        return stat.S_IMODE((self.root / name).lstat().st_mode)

    def owner(self, name: str) -> tuple[int, ...]:
        path = self.root / name
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            return self.owners.recorded.get(os.fsencode(name), (0, 0))
        try:
            return tuple(map(int, os.getxattr(path, OWNER_ATTRIBUTE).split(b":")))
        except OSError:
            return 0, 0

    def time(self, name: str) -> int:
        return int((self.root / name).lstat().st_mtime)

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*"))


def write(path: Path, content: str, mode: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    return path


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    mask = os.umask(0o077)  # must not matter
    try:
        yield Bench(tmp_path)
    finally:
        os.umask(mask)


@pytest.fixture
def users(bench: Bench) -> Bench:
    """An image with the users of case CP9."""
    bench.target("etc/passwd", "root:x:0:0::/root:/bin/sh\nu:x:1234:77::/home/u:/bin/sh\n")
    bench.target("etc/group", "root:x:0:\ng:x:99:u\n")
    bench.source("a.txt")
    return bench


class TestDestinations:
    def test_into_an_existing_directory_without_a_slash(self, bench: Bench) -> None:
        bench.source("a.txt"), bench.source("b.txt")
        bench.copy("a.txt", to="/x/")
        bench.copy("b.txt", to="/x")
        assert bench.files() == ["x", "x/a.txt", "x/b.txt"]

    def test_without_a_slash_the_destination_is_the_file(self, bench: Bench) -> None:
        bench.source("a.txt")
        bench.copy("a.txt", to="/new/name")
        assert bench.text("new/name") == "a.txt"

    def test_several_files_need_a_directory(self, bench: Bench) -> None:
        bench.source("a.txt"), bench.source("b.txt")
        with pytest.raises(ImgError, match="2 sources cannot become one file: `/x`") as caught:
            bench.copy("a.txt", "b.txt", to="/x")
        assert caught.value.hint == "end the destination with a slash: `/x/`"
        (bench.root / "x").mkdir()
        bench.copy("a.txt", "b.txt", to="/x")
        assert bench.files() == ["x", "x/a.txt", "x/b.txt"]

    @pytest.mark.parametrize("source", ["dir", "dir/", "dir/."])
    def test_directories_are_copied_by_content(self, bench: Bench, source: str) -> None:
        bench.source("dir/sub/f")
        bench.copy(source, to="/x")
        assert bench.files() == ["x", "x/sub", "x/sub/f"]

    def test_the_destination_directory_does_not_look_like_the_source(self, bench: Bench) -> None:
        bench.source("dir/sub/f")
        (bench.context / "dir").chmod(0o700)
        (bench.context / "dir/sub").chmod(0o711)
        bench.copy("dir", to="/new")
        assert (bench.mode("new"), bench.mode("new/sub")) == (0o755, 0o711)

    @pytest.mark.parametrize(
        ("options", "below"),
        [
            ({}, (0o750, (0, 0))),
            ({"owner": "5:5"}, (0o750, (5, 5))),
            ({"mode": "711"}, (0o711, (0, 0))),
            ({"owner": "5:6", "mode": "g-x"}, (0o740, (5, 6))),
            ({"exclude": ("nothing",)}, (0o750, (0, 0))),
        ],
    )
    def test_existing_directories_below_the_destination_become_those_of_the_source(
        self, bench: Bench, options: dict[str, object], below: tuple[int, tuple[int, int]]
    ) -> None:
        bench.source("dir/sub/er/f")
        bench.target("t/sub/er/old")
        for name in ("sub", "sub/er"):
            (bench.context / "dir" / name).chmod(0o750)
            os.utime(bench.context / "dir" / name, (1234, 1234))
            (bench.root / "t" / name).chmod(0o1777)
            os.setxattr(bench.root / "t" / name, OWNER_ATTRIBUTE, b"3:4")
        (bench.root / "t").chmod(0o1777)
        os.setxattr(bench.root / "t", OWNER_ATTRIBUTE, b"3:4")
        os.utime(bench.context / "dir", (4321, 4321))
        bench.copy("dir", to="/t/", **options)
        assert (bench.mode("t"), bench.owner("t"), bench.time("t")) == (0o1777, (3, 4), 4321)
        for name in ("t/sub", "t/sub/er"):
            assert (bench.mode(name), bench.owner(name), bench.time(name)) == (*below, 1234)
        assert bench.text("t/sub/er/old") == "old"

    def test_excluded_directories_on_the_way_keep_the_owner_that_they_have(self, bench: Bench) -> None:
        bench.source("dir/sub/f"), bench.source("dir/new/f"), bench.source("dir/sub/no")
        bench.target("t/sub/old")
        (bench.root / "t/sub").chmod(0o1777)
        os.setxattr(bench.root / "t/sub", OWNER_ATTRIBUTE, b"3:4")
        for name in ("sub", "new"):
            (bench.context / "dir" / name).chmod(0o750)
            os.utime(bench.context / "dir" / name, (1234, 1234))
        bench.copy("dir", to="/t/", owner="5:6", exclude=("*", "!sub/f", "!new/f"))
        assert (bench.mode("t/sub"), bench.owner("t/sub")) == (0o750, (3, 4))
        assert (bench.mode("t/new"), bench.owner("t/new")) == (0o750, (5, 6))
        assert bench.time("t/sub") == bench.time("t/new") == NOW // 10**9
        assert bench.files() == ["t", "t/new", "t/new/f", "t/sub", "t/sub/f", "t/sub/old"]

    def test_nothing_matched_makes_nothing(self, bench: Bench) -> None:
        bench.copy("*.zzz", to="/x/")
        assert bench.files() == []
        assert bench.warnings == ["`*.zzz` matches nothing in the build context"]

    def test_a_file_does_not_replace_a_directory(self, bench: Bench) -> None:
        bench.source("a.txt")
        (bench.root / "d/a.txt").mkdir(parents=True)
        with pytest.raises(ImgError, match=r"cannot replace the directory `/d/a\.txt` by a file"):
            bench.copy("a.txt", to="/d/")

    def test_a_directory_does_not_replace_a_file(self, bench: Bench) -> None:
        bench.source("dir/f")
        bench.target("x")
        with pytest.raises(ImgError, match="not a directory: `/x`"):
            bench.copy("dir", to="/x")
        bench.source("top/x/f")
        with pytest.raises(ImgError, match="cannot copy to non-directory: `/x`"):
            bench.copy("top", to="/")

    def test_times_of_the_source_are_kept_and_new_parents_are_new(self, bench: Bench) -> None:
        path = bench.source("dir/sub/f")
        for item in (path, path.parent, path.parent.parent):
            os.utime(item, (1111111111, 1111111111))
        bench.copy("dir", to="/n/m/")
        names = ("n", "n/m", "n/m/sub", "n/m/sub/f")
        assert [bench.time(name) for name in names] == [NOW // 10**9, 1111111111, 1111111111, 1111111111]

    @pytest.mark.parametrize(("order", "time"), [(("dir", "a"), NOW // 10**9), (("a", "dir"), 1111111111)])
    def test_the_destination_has_the_time_of_what_came_last(
        self, bench: Bench, order: tuple[str, ...], time: int
    ) -> None:
        bench.source("dir/f"), bench.source("a")
        os.utime(bench.context / "dir", (1111111111, 1111111111))
        bench.copy(*order, to="/new/")
        (bench.root / "old").mkdir()
        bench.copy(*order, to="/old")
        assert bench.time("new") == bench.time("old") == time

    def test_the_root_of_a_context_has_no_time_to_give(self, bench: Bench) -> None:
        bench.source("f")
        os.utime(bench.context, (1111111111, 1111111111))
        bench.copy(".", to="/new/")
        (bench.root / "old").mkdir()
        bench.copy(".", to="/old")
        assert bench.time("new") == bench.time("old") == NOW // 10**9

    def test_a_time_that_is_set_last_never_leads_out_through_a_link(self, bench: Bench) -> None:
        bench.source("dir/f")
        (bench.context / "x.tar").write_bytes(archive([("w", "../outside", LINK)]))
        (bench.outside / "x").mkdir()
        context = os.open(bench.context, os.O_RDONLY | os.O_DIRECTORY)
        root = os.open(bench.root, os.O_RDONLY | os.O_DIRECTORY)
        actions = [Copy(0, ("dir",), "/w/x"), Copy(0, ("x.tar",), "/", unpack=True, add=True)]
        selections = [select(SourceTree(context), action) for action in actions]
        before = (bench.outside / "x").stat().st_mtime_ns
        apply(actions, selections, root, owners=bench.owners, now_ns=NOW, archives=unpacking)
        os.close(root)
        os.close(context)
        assert (bench.root / "w").is_symlink()
        assert (bench.outside / "x").stat().st_mtime_ns == before

    def test_modes_with_set_id_bits_are_kept(self, bench: Bench) -> None:
        bench.source("f", mode=0o4751)
        bench.copy("f", to="/")
        assert bench.mode("f") == 0o4751

    def test_an_old_file_is_replaced_not_written_through(self, bench: Bench) -> None:
        bench.source("a", "new")
        old = bench.target("x/a", "old")
        os.link(old, bench.root / "x/other")
        bench.copy("a", to="/x/")
        assert (bench.text("x/a"), bench.text("x/other")) == ("new", "old")

    def test_deep_trees_and_many_files(self, bench: Bench) -> None:
        deep = "/".join(["d" * 10] * 150)
        bench.source(f"dir/{deep}/f")
        for number in range(300):
            bench.source(f"dir/many/{number}")
        bench.copy("dir", to="/x")
        assert bench.text(f"x/{deep}/f")
        assert len(os.listdir(bench.root / "x/many")) == 300

    def test_names_that_are_no_text(self, bench: Bench) -> None:
        Path(os.fsdecode(bytes(bench.context) + b"/\xff\n" + b"n" * 250)).write_text("x")
        bench.copy(".", to="/")
        assert os.listdir(bytes(bench.root)) == [b"\xff\n" + b"n" * 250]


class TestLinksInTheRoot:
    def test_a_link_to_a_directory_is_followed_and_kept(self, bench: Bench) -> None:
        bench.source("a.txt"), bench.source("dir/f")
        (bench.root / "real").mkdir()
        (bench.root / "ln").symlink_to("/real")
        bench.copy("a.txt", to="/ln/")
        bench.copy("dir", to="/ln")
        assert bench.files() == ["ln", "real", "real/a.txt", "real/f"]
        assert (bench.root / "ln").is_symlink()

    def test_a_link_to_a_file_is_written_through(self, bench: Bench) -> None:
        bench.source("a.txt")
        bench.target("orig")
        (bench.root / "ln6").symlink_to("/orig")
        bench.copy("a.txt", to="/ln6")
        assert bench.text("orig") == "a.txt"
        assert (bench.root / "ln6").is_symlink()

    @pytest.mark.parametrize("target", ["../../../tmp/zz", "/tmp/zz", "tmp/zz"])
    def test_dangling_links_are_made_inside_the_root(self, bench: Bench, target: str) -> None:
        bench.source("a.txt"), bench.source("dir/f")
        (bench.root / "file").symlink_to(target)
        (bench.root / "dir").symlink_to(target + ".d")
        bench.copy("a.txt", to="/file")
        bench.copy("dir", to="/dir/deeper")
        assert bench.text("tmp/zz") == "a.txt"
        assert bench.text("tmp/zz.d/deeper/f") == "dir/f"

    def test_nothing_is_written_outside(self, bench: Bench) -> None:
        bench.source("a.txt"), bench.source("dir/sub/f")
        victim = bench.outside / "victim"
        victim.write_text("safe")
        (bench.root / "up").symlink_to("../outside")
        (bench.root / "abs").symlink_to(bench.outside)
        (bench.root / "file").symlink_to(victim)
        for to in ("/up/", "/abs/", "/file", "/up/../../../outside/x", "/abs/victim"):
            bench.copy("a.txt", to=to)
            bench.copy("dir", to=to.rstrip("/") + ".d")
        assert victim.read_text() == "safe"
        assert os.listdir(bench.outside) == ["victim"]

    def test_a_link_in_the_place_of_an_entry_is_replaced_by_a_file(self, bench: Bench) -> None:
        bench.source("dir/f1", "new")
        bench.target("target")
        (bench.root / "q").mkdir()
        (bench.root / "q/f1").symlink_to("/target")
        bench.copy("dir/", to="/q/")
        assert (bench.text("q/f1"), bench.text("target")) == ("new", "old")

    def test_a_link_in_the_place_of_a_directory_is_an_error(self, bench: Bench) -> None:
        bench.source("dir/sub/f")
        (bench.root / "q").mkdir()
        (bench.root / "real").mkdir()
        (bench.root / "q/sub").symlink_to("/real")
        with pytest.raises(ImgError, match="cannot copy to non-directory: `/q/sub` is a symbolic link"):
            bench.copy("dir/", to="/q/")

    def test_a_circle_is_an_error(self, bench: Bench) -> None:
        bench.source("a.txt")
        (bench.root / "one").symlink_to("two")
        (bench.root / "two").symlink_to("one")
        for to in ("/one", "/one/x"):
            with pytest.raises(ImgError, match="too many links"):
                bench.copy("a.txt", to=to)


class TestSources:
    def test_links_inside_a_directory_stay_links(self, bench: Bench) -> None:
        bench.source("dir/f1")
        (bench.context / "dir/lnk").symlink_to("/etc/passwd")
        bench.copy("dir", to="/x")
        assert os.readlink(bench.root / "x/lnk") == "/etc/passwd"

    def test_hard_links_inside_a_directory_are_kept(self, bench: Bench) -> None:
        first = bench.source("dir/a")
        (bench.context / "dir/sub").mkdir()
        os.link(first, bench.context / "dir/sub/b")
        bench.target("x/sub/b")  # in the way
        bench.copy("dir", to="/x")
        assert (bench.root / "x/a").samefile(bench.root / "x/sub/b")

    def test_fifos_are_copied_and_sockets_left_out(self, bench: Bench) -> None:
        import socket

        os.mkfifo(bench.context / "pipe", 0o640)
        (bench.context / "pipe").chmod(0o640)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(bench.context / "socket"))
        bench.copy(".", to="/")
        assert bench.files() == ["pipe"]
        assert stat.S_ISFIFO((bench.root / "pipe").stat().st_mode)
        assert bench.mode("pipe") == 0o640
        assert bench.warnings == ["`/socket` in the build context is a socket: not copied"]

    def test_sparse_files_stay_sparse(self, bench: Bench) -> None:
        path = bench.source("big", "start")
        os.truncate(path, 64 << 20)
        bench.copy("big", to="/big")
        copy = (bench.root / "big").stat()
        assert copy.st_size == 64 << 20
        assert copy.st_blocks * 512 < 1 << 20

    def test_attributes_of_a_context_are_dropped(self, bench: Bench) -> None:
        os.setxattr(bench.source("f"), "user.mine", b"1")
        bench.copy("f", to="/")
        assert os.listxattr(bench.root / "f") == []

    def test_a_file_that_changes_between_look_and_copy_is_an_error(self, bench: Bench) -> None:
        bench.source("f")
        context = os.open(bench.context, os.O_RDONLY | os.O_DIRECTORY)
        root = os.open(bench.root, os.O_RDONLY | os.O_DIRECTORY)
        action = Copy(0, ("f",), "/")
        selection = select(SourceTree(context), action)
        bench.source("f", "something else")
        with pytest.raises(ImgError, match="`/f` in the build context changed while it was read"):
            apply([action], [selection], root, owners=bench.owners, archives=unpacking)
        os.close(context)
        os.close(root)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_an_unreadable_file_is_named(self, bench: Bench) -> None:
        bench.source("dir/f", mode=0)
        with pytest.raises(ImgError, match="cannot read `/dir/f` in the build context: permission denied"):
            bench.copy("dir", to="/x")


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


def archive(members: Sequence[Member], *, compression: str = "") -> bytes:
    """A tar with ``(name, content or link text, fields)``; a name that ends in a slash is a directory."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{compression}", format=tarfile.GNU_FORMAT) as file:  # type: ignore[call-overload]
        for name, content, fields in members:
            info = tarfile.TarInfo(name)
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            for field, value in fields.items():
                setattr(info, field, value)
            data = content.encode() if info.type == tarfile.REGTYPE else b""
            if info.type == tarfile.SYMTYPE:
                info.linkname = content
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return stream.getvalue()


#: name, content or text of the link, fields of the header
Member = tuple[str, str, dict[str, object]]

LINK: dict[str, object] = {"type": tarfile.SYMTYPE}


class TestAdd:
    @pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
    def test_archives_are_known_by_content(self, bench: Bench, compression: str) -> None:
        data = archive(
            [("t/", "", {"mode": 0o700, "uid": 3, "gid": 4}), ("t/f", "hi", {"mtime": 99})], compression=compression
        )
        (bench.context / "x.bin").write_bytes(data)
        bench.add("x.bin", to="/e")
        assert (bench.text("e/t/f"), bench.mode("e/t"), bench.owner("e/t")) == ("hi", 0o700, (3, 4))
        assert (bench.root / "e/t/f").stat().st_mtime == 99

    def test_what_is_no_archive_is_copied(self, bench: Bench) -> None:
        import gzip

        (bench.context / "text.gz").write_bytes(gzip.compress(b"text"))
        bench.source("fake.tar.gz", "no archive" * 100)
        (bench.context / "empty.tar.gz").write_bytes(b"")
        (bench.context / "zeros.tar").write_bytes(bytes(10240))
        bench.add(".", to="/d/")
        bench.add("text.gz", "fake.tar.gz", "empty.tar.gz", "zeros.tar", to="/e/")
        assert sorted(os.listdir(bench.root / "e")) == ["empty.tar.gz", "fake.tar.gz", "text.gz", "zeros.tar"]
        assert gzip.decompress((bench.root / "e/text.gz").read_bytes()) == b"text"

    def test_archives_in_a_directory_and_with_unpack_off_are_copied(self, bench: Bench) -> None:
        (bench.context / "dir").mkdir()
        (bench.context / "dir/x.tar").write_bytes(archive([("f", "hi", {})]))
        bench.add("dir", to="/e/")
        bench.copy("dir/x.tar", to="/g/")
        assert bench.files() == ["e", "e/x.tar", "g", "g/x.tar"]

    def test_chown_wins_over_the_archive_and_chmod_does_not(self, bench: Bench) -> None:
        (bench.context / "x.tar").write_bytes(
            archive([("f", "hi", {"mode": 0o600, "uid": 3}), ("l", "f", {**LINK, "uid": 3})])
        )
        bench.add("x.tar", to="/e/", owner="9:10", mode="0700")
        assert (bench.owner("e/f"), bench.owner("e/l"), bench.mode("e/f")) == ((9, 10), (9, 10), 0o600)
        assert (bench.owner("e"), bench.mode("e")) == ((9, 10), 0o755)

    def test_directories_of_the_archive_change_existing_ones_but_not_the_destination(self, bench: Bench) -> None:
        bench.target("e/t/old")
        (bench.root / "e").chmod(0o1777)
        (bench.root / "e/t").chmod(0o1777)
        members: list[Member] = [("./", "", {"mode": 0o711}), ("./t/", "", {"mode": 0o700, "uid": 3, "gid": 4})]
        (bench.context / "x.tar").write_bytes(archive(members))
        bench.add("x.tar", to="/e/")
        assert (bench.mode("e"), bench.mode("e/t"), bench.owner("e/t")) == (0o1777, 0o700, (3, 4))
        assert bench.text("e/t/old") == "old"

    def test_names_are_clamped_to_the_destination(self, bench: Bench) -> None:
        (bench.context / "x.tar").write_bytes(archive([("../../up", "u", {}), ("/abs", "a", {}), (".wh.e1", "w", {})]))
        bench.target("e/e1")
        bench.add("x.tar", to="/e/")
        assert bench.files() == ["e", "e/.wh.e1", "e/abs", "e/e1", "e/up"]

    def test_links_of_an_archive_do_not_lead_out(self, bench: Bench) -> None:
        members: list[Member] = [
            ("l", "../../../outside", LINK),
            ("l/f", "evil", {}),
            ("a", str(bench.outside), LINK),
            ("a/f", "evil", {}),
        ]
        (bench.context / "x.tar").write_bytes(archive(members))
        with pytest.raises(ArchiveError):
            bench.add("x.tar", to="/e/")
        assert os.listdir(bench.outside) == []

    @pytest.mark.parametrize("link", ["/tmp", "../../tmp", "a/../../../tmp"])
    def test_links_that_lead_out_of_the_destination_are_resolved_inside_of_it(self, bench: Bench, link: str) -> None:
        members: list[Member] = [
            ("a/", "", {}),
            ("tmp/", "", {}),
            ("l", link, LINK),
            ("l/f", "x", {"uid": 5, "gid": 6}),
        ]
        (bench.context / "x.tar").write_bytes(archive([*members, ("l/n", "x", {**LINK, "uid": 7, "gid": 8})]))
        (bench.root / "tmp").mkdir()
        bench.add("x.tar", to="/deep/e/")
        assert bench.text("deep/e/tmp/f") == "x"
        assert (bench.owner("deep/e/tmp/f"), os.listdir(bench.root / "tmp")) == ((5, 6), [])

    def test_recorded_owners_are_those_of_the_root(self, bench: Bench) -> None:
        (bench.context / "x.tar").write_bytes(archive([("d/l", "x", {**LINK, "uid": 7, "gid": 8})]))
        bench.add("x.tar", to="/deep/e/")
        bench.add("x.tar", to="/")
        assert bench.owner("deep/e/d/l") == bench.owner("d/l") == (7, 8)

    def test_an_entry_without_a_name_is_skipped(self, bench: Bench) -> None:
        (bench.context / "x.tar").write_bytes(archive([("", "lost", {}), ("f", "x", {})]))
        bench.add("x.tar", to="/e/")
        assert bench.files() == ["e", "e/f"]

    def test_an_archive_cannot_turn_a_new_directory_into_a_way_out(self, bench: Bench) -> None:
        bench.outside.chmod(0o700)
        (bench.context / "x.tar").write_bytes(archive([("x", "../../outside", LINK)]))
        root = os.open(bench.root, os.O_PATH | os.O_DIRECTORY)
        context = os.open(bench.context, os.O_RDONLY | os.O_DIRECTORY)
        actions: list[FileAction] = [MakeDirectory("/w/x"), Copy(0, ("x.tar",), "/w/", unpack=True, add=True)]
        selections = [None, select(SourceTree(context), actions[1])]  # type: ignore[arg-type]
        apply(actions, selections, root, owners=bench.owners, now_ns=NOW, archives=unpacking)
        os.close(root)
        os.close(context)
        assert (bench.root / "w/x").is_symlink()
        info = bench.outside.stat()
        assert (stat.S_IMODE(info.st_mode), info.st_mtime_ns == NOW) == (0o700, False)

    def test_the_destination_may_be_a_link(self, bench: Bench) -> None:
        (bench.root / "real").mkdir()
        (bench.root / "ln").symlink_to("/real")
        (bench.context / "x.tar").write_bytes(archive([("f", "hi", {})]))
        bench.add("x.tar", to="/ln")
        assert bench.text("real/f") == "hi"


class TestWorkdirAndHeredoc:
    def test_missing_parents_get_the_owner_and_existing_ones_keep_theirs(self, bench: Bench) -> None:
        (bench.root / "own").mkdir(mode=0o700)
        (bench.root / "own").chmod(0o700)
        bench.run(MakeDirectory("/own/new/er", owner="5:6"))
        assert [bench.owner(name) for name in ("own", "own/new", "own/new/er")] == [(0, 0), (5, 6), (5, 6)]
        assert [bench.mode(name) for name in ("own", "own/new", "own/new/er")] == [0o700, 0o755, 0o755]

    def test_an_existing_directory_is_not_touched(self, bench: Bench) -> None:
        (bench.root / "w").mkdir()
        os.utime(bench.root / "w", (5, 5))
        bench.run(MakeDirectory("/w", owner="5:6"))
        assert (bench.root / "w").stat().st_mtime == 5

    def test_links_are_followed(self, bench: Bench) -> None:
        (bench.root / "r").mkdir()
        (bench.root / "s").symlink_to("/r")
        bench.run(MakeDirectory("/s/new"))
        assert bench.files() == ["r", "r/new", "s"]

    def test_a_file_in_the_way_is_an_error(self, bench: Bench) -> None:
        bench.target("f")
        with pytest.raises(ImgError, match="not a directory: `/f`"):
            bench.run(MakeDirectory("/f/x"))

    def test_numbers_are_their_own_group_and_unknown_users_are_root(self, users: Bench) -> None:
        users.run(
            MakeDirectory("/n", owner="1234"), MakeDirectory("/u", owner="u"), MakeDirectory("/x", owner="nosuch")
        )
        assert [users.owner(name) for name in "nux"] == [(1234, 1234), (1234, 77), (0, 0)]
        assert users.warnings == [
            "unable to find user nosuch: no matching entries in passwd file: `/x` belongs to root"
        ]

    def test_new_directories_have_the_given_time(self, bench: Bench) -> None:
        bench.run(MakeDirectory("/a"))
        assert (bench.root / "a").stat().st_mtime_ns == NOW

    def test_a_heredoc_becomes_a_file(self, bench: Bench) -> None:
        bench.run(WriteFile("EOF", b"text\n", "/d/"), WriteFile("EOF", b"x", "/script", owner="5", mode="755"))
        assert (bench.text("d/EOF"), bench.mode("d/EOF"), bench.owner("d/EOF")) == ("text\n", 0o644, (0, 0))
        assert (bench.text("script"), bench.mode("script"), bench.owner("script")) == ("x", 0o755, (5, 5))
        assert (bench.root / "script").stat().st_mtime_ns == NOW


def test_warnings_do_not_pile_up(bench: Bench) -> None:
    (bench.context / "a").mkdir()
    for number in range(70):
        os.mknod(bench.context / f"a/{number}", stat.S_IFSOCK | 0o600)
    bench.copy("a", to="/x")
    assert len(bench.warnings) == 51
    assert bench.warnings[-1] == "and 20 more warnings of this kind"


def test_work_can_be_stopped(bench: Bench) -> None:
    class Stop(Exception):
        pass

    def check() -> None:
        raise Stop

    bench.source("dir/f")
    context = os.open(bench.context, os.O_RDONLY | os.O_DIRECTORY)
    root = os.open(bench.root, os.O_RDONLY | os.O_DIRECTORY)
    action = Copy(0, ("dir",), "/x")
    with pytest.raises(Stop):
        apply(
            [action], [select(SourceTree(context), action)], root, owners=bench.owners, check=check, archives=unpacking
        )
    os.close(context)
    os.close(root)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EMFILE])
def test_every_failing_mutation_is_one_line(bench: Bench, error: int) -> None:
    first = bench.source("dir/sub/f")
    os.link(first, bench.context / "dir/g")
    (bench.context / "dir/l").symlink_to("f")
    os.mkfifo(bench.context / "dir/p")
    (bench.context / "x.tar").write_bytes(archive([("t/f", "hi", {"uid": 3})]))
    actions: list[FileAction] = [
        Copy(0, ("dir",), "/a/b", owner="5:6"),
        MakeDirectory("/w", owner="7"),
        WriteFile("EOF", b"text", "/h/"),
        Copy(0, ("x.tar",), "/t/", unpack=True, add=True),
    ]
    number, failures = 0, 0
    while failures == number:
        number += 1
        faults.install(fail_at=number, error=error)
        try:
            bench.run(*actions)
        except ImgError as err:
            failures += 1
            assert os.strerror(error).lower() in err.message
            assert "\n" not in err.message
        finally:
            faults.uninstall()
            fs.remove_tree(str(bench.root))
            bench.root.mkdir()
    assert failures > 15
