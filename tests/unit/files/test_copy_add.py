"""What ADD does with archives (docs/reference/dockerfile-cases.md, AD)."""

from __future__ import annotations

import os
import stat

import pytest
from copy_bench import LINK, NOW, Bench, Member, archive

from img_core.archives import unpacking
from img_core.files.copy import SourceTree, apply, select
from img_core.spec.errors import ArchiveError
from img_core.spec.graph import Copy, FileAction, MakeDirectory


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
