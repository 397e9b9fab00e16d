"""What COPY, ADD, WORKDIR and heredocs do to a root file system (docs/reference/dockerfile-cases.md, CP, AD, WU)."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from copy_bench import LINK, NOW, Bench, archive

from img_core.archives import unpacking
from img_core.files import faults, fs
from img_core.files.copy import SourceTree, apply, select
from img_core.files.ownership import OWNER_ATTRIBUTE
from img_core.spec.errors import ImgError
from img_core.spec.graph import Copy, FileAction, MakeDirectory, WriteFile


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

    @pytest.mark.parametrize("there", [(), ("n/dir/sub/",), ("n/dir/sub/below/", "n/dir/sub/other")])
    def test_directories_that_hold_directories_have_the_time_of_the_source(
        self, bench: Bench, there: tuple[str, ...]
    ) -> None:
        path = bench.source("top/dir/sub/below/f")
        for item in path.parents[:4]:
            os.utime(item, (1111111111, 1111111111))
        for name in there:
            (bench.root / name.rpartition("/")[0]).mkdir(parents=True, exist_ok=True)
        bench.copy("top", to="/n")
        names = ("n", "n/dir", "n/dir/sub", "n/dir/sub/below")
        assert [bench.time(name) for name in names] == [1111111111] * 4

    def test_a_copied_directory_that_changes_afterwards_has_the_given_time(self, bench: Bench) -> None:
        path = bench.source("top/dir/sub/f")
        bench.source("a")
        for item in path.parents[:3]:
            os.utime(item, (1111111111, 1111111111))
        bench.run(Copy(0, ("top",), "/n"), Copy(0, ("a",), "/n/dir/"))
        assert [bench.time(name) for name in ("n", "n/dir", "n/dir/sub")] == [1111111111, NOW // 10**9, 1111111111]

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
