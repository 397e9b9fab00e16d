"""Unpacking: odd archives, hostile archives, and what GNU tar makes of the same bytes."""

import io
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest

from img_core.archives.tar import Limits, MissingLinkTarget, OwnerPolicy, Stats, TarReader, extract
from img_core.spec.errors import ArchiveError, ImgError
from img_core.testing import archives
from img_core.testing.archives import ACCEPTED, END, REFUSED, Case, directory, entry, hard_link, header, pax, symlink
from img_core.testing.trees import fingerprint, unpack_with_gnu_tar

MINE = OwnerPolicy(force=(os.geteuid(), os.getegid()))
MODES = ("plain", "layer-apply", "layer-overlay")


#: Archives that GNU tar unpacks with a complaint.
COMPLAINTS = ("odd padding", "nothing at all", "entry without a name")


def can_give_files_away() -> bool:
    """Tell whether ids 0 to 8 exist here and are ours to use."""
    return os.geteuid() == 0 and _mapped() > 8


def has_every_id() -> bool:
    return os.geteuid() == 0 and _mapped() > 4_000_000_000


def _mapped() -> int:
    lines = Path("/proc/self/uid_map").read_text().splitlines()
    return sum(int(line.split()[2]) for line in lines)


def unpack(archive: bytes, root: Path, mode: str = "plain", owners: OwnerPolicy = MINE, **options: object) -> Stats:
    root.mkdir(exist_ok=True)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return extract(TarReader(io.BytesIO(archive)), fd, mode=mode, owners=owners, **options)  # type: ignore[arg-type]
    finally:
        os.close(fd)


def can_make_whiteouts() -> bool:
    path = f"/tmp/.whiteout-{os.getpid()}"
    try:
        os.mknod(path, stat.S_IFCHR, 0)
    except OSError:
        return False
    os.unlink(path)
    return True


overlay = pytest.mark.skipif(not can_make_whiteouts(), reason="making whiteouts needs root or a user namespace")


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A directory beside the root that no archive may touch."""
    made = tmp_path / "canary"
    made.mkdir()
    (made / "file").write_text("untouched")
    (made / "dir").mkdir()
    return made


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_hostile_or_damaged_archive_is_one_line_and_touches_nothing_outside(
    case: Case, mode: str, tmp_path: Path, canary: Path
) -> None:
    if mode not in case.modes:
        mode = case.modes[0]
    before = fingerprint(bytes(canary), changes=True)
    with pytest.raises(ArchiveError) as caught:
        unpack(case.make(bytes(canary)), tmp_path / "root", mode)
    assert caught.value.message.isprintable()
    assert fingerprint(bytes(canary), changes=True) == before
    assert sorted(os.listdir(tmp_path)) == ["canary", "root"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_odd_archive_unpacks_to_the_same_tree_as_with_gnu_tar(
    case: Case, mode: str, tmp_path: Path, canary: Path
) -> None:
    archive = case.make(bytes(canary))
    theirs = tmp_path / "gnu"
    theirs.mkdir()
    assert unpack_with_gnu_tar(archive, str(theirs)) or case.name in COMPLAINTS
    unpack(archive, tmp_path / "root", mode, OwnerPolicy() if can_give_files_away() else MINE)
    assert _without_implied_times(tmp_path / "root", case) == _without_implied_times(theirs, case)


def _without_implied_times(top: Path, case: Case) -> Mapping[bytes, object]:
    """Directories that no entry describes have the time of their making."""
    return fingerprint(bytes(top), times=case.name not in ("doubled slashes", "missing parents", "prefix field", "leading slash",
                                                    "gnu long name"))  # fmt: skip


@pytest.mark.parametrize("name", [b"../../up", b"/up", b"a/../../up", b"./../up"])
def test_plain_archive_stays_at_its_destination(name: bytes, tmp_path: Path) -> None:
    unpack(entry(name, b"x") + END, tmp_path / "root")
    assert (tmp_path / "root/up").read_bytes() == b"x"
    assert os.listdir(tmp_path) == ["root"]


def test_plain_archive_keeps_the_destinations_own_mode(tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e").chmod(0o1777)
    unpack(directory(b"./", 0o700) + directory(b"t/", 0o700) + END, tmp_path / "e")
    assert stat.S_IMODE((tmp_path / "e").stat().st_mode) == 0o1777
    assert stat.S_IMODE((tmp_path / "e/t").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", MODES)
def test_directory_replaces_a_symlink_to_a_directory(mode: str, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "t").symlink_to("real")
    unpack(directory(b"t/") + entry(b"t/f", b"x") + END, tmp_path, mode)
    assert not (tmp_path / "t").is_symlink()
    assert os.listdir(tmp_path / "real") == []


@pytest.mark.parametrize("mode", MODES)
def test_file_replaces_a_symlink_instead_of_writing_through_it(mode: str, tmp_path: Path, canary: Path) -> None:
    unpack(symlink(b"f", bytes(canary / "file")) + entry(b"f", b"new") + END, tmp_path / "root", mode)
    assert (tmp_path / "root/f").read_bytes() == b"new"
    assert (canary / "file").read_text() == "untouched"


def test_plain_archive_keeps_whiteout_names_as_files(tmp_path: Path) -> None:
    (tmp_path / "e1").touch()
    unpack(entry(b".wh.e1", b"") + END, tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".wh.e1", "e1"]


@pytest.mark.parametrize("mode", MODES)
def test_parents_that_are_links_resolve_inside_the_root(mode: str, tmp_path: Path, canary: Path) -> None:
    root = tmp_path / "root"
    inside = root / str(canary).lstrip("/")
    inside.mkdir(parents=True)
    unpack(symlink(b"s", bytes(canary)) + entry(b"s/f", b"x") + END, root, mode)
    assert (inside / "f").read_bytes() == b"x"
    assert sorted(os.listdir(canary)) == ["dir", "file"]


def test_hard_link_to_a_missing_file_has_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(MissingLinkTarget, match="missing: `gone`"):
        unpack(hard_link(b"l", b"gone") + END, tmp_path)


@pytest.mark.parametrize("mode", MODES)
def test_the_header_of_the_last_name_describes_a_file(mode: str, tmp_path: Path) -> None:
    of_link = header(b"l", kind=b"1", linkname=b"f", mode=0o4711, mtime=1_200_000_000)
    note = pax({b"SCHILY.xattr.user.note": b"of the link"})
    unpack(entry(b"f", b"x", mode=0o640) + note + of_link + END, tmp_path / "root", mode)
    info = (tmp_path / "root/f").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_mtime, info.st_nlink) == (0o4711, 1_200_000_000, 2)
    assert os.getxattr(tmp_path / "root/f", b"user.note") == b"of the link"
    again = header(b"l", kind=b"1", linkname=b"f", mode=0o600)
    unpack(again + END, tmp_path / "root", mode)  # which is there already
    assert stat.S_IMODE((tmp_path / "root/l").stat().st_mode) == 0o600


def test_a_hard_link_takes_no_attributes_and_gives_its_owner(tmp_path: Path) -> None:
    note = pax({b"SCHILY.xattr.user.note": b"kept"})
    archive = note + entry(b"f", b"x", uid=5, gid=6) + header(b"l", kind=b"1", linkname=b"f") + END
    record = OwnerPolicy(mode="record")
    unpack(archive, tmp_path / "recorded", owners=record)
    attributes = sorted(os.listxattr(tmp_path / "recorded/f"))
    assert attributes == ["user.note"], "root's, which needs no record"
    unpack(
        note + entry(b"f", b"x") + header(b"l", kind=b"1", linkname=b"f", uid=5, gid=6) + END,
        tmp_path / "b",
        owners=record,
    )
    assert os.getxattr(tmp_path / "b/f", b"user.img.owner") == b"5:6"
    if can_give_files_away():
        unpack(archive, tmp_path / "given", owners=OwnerPolicy())
        info = (tmp_path / "given/f").stat()
        assert (info.st_uid, info.st_gid) == (0, 0)
        assert os.getxattr(tmp_path / "given/f", b"user.note") == b"kept"


@pytest.mark.parametrize("policy", ["caller", "record"])
def test_a_hard_link_to_a_file_that_nobody_may_read_describes_it(
    policy: Literal["caller", "record"], tmp_path: Path
) -> None:
    of_link = header(b"l", kind=b"1", linkname=b"f", mode=0o240, mtime=1_200_000_000)
    unpack(entry(b"f", b"x", mode=0) + of_link + END, tmp_path / "root", owners=OwnerPolicy(mode=policy))
    info = (tmp_path / "root/f").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_mtime, info.st_nlink) == (0o240, 1_200_000_000, 2)


@pytest.mark.parametrize("mode", MODES)
def test_a_hard_link_to_what_is_no_file_changes_nothing(mode: str, tmp_path: Path) -> None:
    pipe = header(b"p", kind=b"6", mode=0o600)
    links = b"".join(header(name, kind=b"1", linkname=target) for name, target in ((b"ll", b"l"), (b"pp", b"p")))
    unpack(symlink(b"l", b"nowhere") + pipe + links + END, tmp_path / "root", mode)
    assert os.readlink(tmp_path / "root/ll") == "nowhere"
    assert stat.S_IMODE((tmp_path / "root/pp").stat().st_mode) == 0o600


def test_terminal_escapes_of_a_name_are_not_printed(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"\\x1b") as caught:
        unpack(entry(b"a\x1b[31m/../b", b"") + END, tmp_path, "layer-apply")
    assert caught.value.message.isprintable()


def test_limits_end_in_one_line(tmp_path: Path) -> None:
    archive = entry(b"a", b"x" * 5000) + entry(b"b", b"x" * 5000) + END
    for limits in (Limits(members=1), Limits(total_size=6000)):
        with pytest.raises(ArchiveError):
            for _ in TarReader(io.BytesIO(archive), limits=limits):
                pass


def test_existing_tree_is_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "d/deep/deeper").mkdir(parents=True)
    (tmp_path / "d/deep/deeper").chmod(0)
    unpack(entry(b"d", b"now a file") + END, tmp_path)
    assert (tmp_path / "d").read_bytes() == b"now a file"


# ---------------------------------------------------------------------------------------------------------- whiteouts


def lower(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("d/old", "d/sub/old", "d/sub/deeper/old", "keep", "gone"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("lower")
    return root


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def test_whiteout_deletes_from_lower_layers(tmp_path: Path) -> None:
    root = lower(tmp_path)
    unpack(entry(b".wh.gone") + entry(b"d/.wh.sub") + entry(b".wh.never-there") + END, root, "layer-apply")
    assert names(root) == {"d/old", "keep"}


@pytest.mark.parametrize("first", [True, False], ids=["marker first", "marker last"])
def test_opaque_marker_keeps_what_its_own_layer_adds(first: bool, tmp_path: Path) -> None:
    root = lower(tmp_path)
    added = directory(b"d/") + entry(b"d/new", b"x") + directory(b"d/sub/") + entry(b"d/sub/new", b"x")
    marker = entry(b"d/.wh..wh..opq")
    unpack((marker + added if first else added + marker) + END, root, "layer-apply")
    assert names(root) == {"d/new", "d/sub/new", "keep", "gone"}


@pytest.mark.parametrize("first", [True, False], ids=["whiteout first", "whiteout last"])
def test_whiteout_never_deletes_an_entry_of_its_own_layer(first: bool, tmp_path: Path) -> None:
    root = lower(tmp_path)
    added = entry(b"gone", b"again") + entry(b"d/sub/new", b"x")
    marks = entry(b".wh.gone") + entry(b".wh.d")
    unpack((marks + added if first else added + marks) + END, root, "layer-apply")
    assert names(root) == {"gone", "keep", "d/sub/new"}
    assert (root / "gone").read_text() == "again"


def test_whiteout_follows_no_link(tmp_path: Path, canary: Path) -> None:
    root = lower(tmp_path)
    archive = symlink(b"out", bytes(canary)) + entry(b"out/.wh.file") + entry(b"out/.wh..wh..opq") + END
    unpack(archive, root, "layer-apply")
    assert sorted(os.listdir(canary)) == ["dir", "file"]


@overlay
def test_overlay_marks_deletions(tmp_path: Path) -> None:
    stats = unpack(entry(b"d/.wh.x") + directory(b"o/") + entry(b"o/.wh..wh..opq") + END, tmp_path, "layer-overlay")
    info = os.lstat(tmp_path / "d/x")
    assert stat.S_ISCHR(info.st_mode)
    assert info.st_rdev == 0
    assert os.getxattr(tmp_path / "o", "user.overlay.opaque") == b"y"
    assert stats.implied == [b"d"]
    assert not stats.root_opaque


@overlay
@pytest.mark.parametrize("first", [True, False], ids=["whiteout first", "whiteout last"])
@pytest.mark.parametrize(
    "added", [directory(b"d/") + entry(b"d/f", b"x"), entry(b"d/f", b"x")], ids=["entry", "implied"]
)
def test_overlay_replaced_directory_becomes_opaque(first: bool, added: bytes, tmp_path: Path) -> None:
    mark = entry(b".wh.d")
    unpack((mark + added if first else added + mark) + END, tmp_path, "layer-overlay")
    assert (tmp_path / "d/f").read_bytes() == b"x"
    assert os.getxattr(tmp_path / "d", "user.overlay.opaque") == b"y"


@overlay
def test_overlay_mark_cannot_be_multiplied_by_a_hard_link(tmp_path: Path) -> None:
    with pytest.raises(MissingLinkTarget):
        unpack(entry(b".wh.a") + hard_link(b"b", b"a") + END, tmp_path, "layer-overlay")
    assert os.listdir(tmp_path) == ["a"]


@overlay
def test_overlay_reports_a_layer_that_hides_everything(tmp_path: Path) -> None:
    assert unpack(entry(b".wh..wh..opq") + END, tmp_path, "layer-overlay").root_opaque


def test_markers_repeated_without_end_take_no_quadratic_time(tmp_path: Path) -> None:
    import time

    files = b"".join(entry(b"d/%d" % n) for n in range(1500))
    began = time.process_time()
    unpack(
        directory(b"d/") + files + entry(b"d/.wh..wh..opq") * 1500 + entry(b".wh.d") * 1500 + END,
        tmp_path,
        "layer-apply",
    )
    assert time.process_time() - began < 3
    assert len(os.listdir(tmp_path / "d")) == 1500


def test_archives_cannot_ask_for_endless_unnamed_directories(tmp_path: Path) -> None:
    deep = b"".join(archives.gnu_long(b"%d/" % n + b"d/" * 2000 + b"f") + entry(b"x") for n in range(60))
    with pytest.raises(ArchiveError, match="too many directories"):
        unpack(deep + END, tmp_path / "root")
    from img_core.files import fs

    fs.remove_tree(str(tmp_path / "root"))  # too deep for the clean-up of the test runner


# ----------------------------------------------------------------------------------------------- owners and attributes


def test_control_attributes_of_a_layer_are_dropped(tmp_path: Path) -> None:
    hostile = {b"SCHILY.xattr.user.overlay.opaque": b"y", b"SCHILY.xattr.user.img.owner": b"0:0",
               b"SCHILY.xattr.trusted.overlay.redirect": b"/etc", b"SCHILY.xattr.user.kept": b"1"}  # fmt: skip
    unpack(pax(hostile) + directory(b"d/") + pax(hostile) + entry(b"f", b"x") + END, tmp_path, "layer-overlay")
    assert os.listxattr(tmp_path / "d") == os.listxattr(tmp_path / "f") == ["user.kept"]


def test_owners_are_recorded_where_only_one_id_exists(tmp_path: Path) -> None:
    archive = entry(b"f", b"x", uid=7, gid=8) + directory(b"d/", uid=9) + symlink(b"l", b"f") + END
    archive = archive.replace(symlink(b"l", b"f"), header(b"l", kind=b"2", linkname=b"f", uid=5, gid=6))
    stats = unpack(archive, tmp_path, "layer-apply", OwnerPolicy("record"))
    assert os.getxattr(tmp_path / "f", "user.img.owner") == b"7:8"
    assert os.getxattr(tmp_path / "d", "user.img.owner") == b"9:0"
    assert stats.owners == [(b"l", 5, 6)]


@pytest.mark.skipif(not can_give_files_away(), reason="needs root, of the host or of a namespace with several ids")
def test_owner_mode_and_capabilities_survive_together(tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    records = {b"SCHILY.xattr.security.capability": capability}
    unpack(pax(records) + entry(b"f", b"x", uid=7, gid=8, mode=0o6755) + END, tmp_path, owners=OwnerPolicy())
    info = (tmp_path / "f").stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (7, 8, 0o6755)
    assert os.getxattr(tmp_path / "f", "security.capability") == capability


@pytest.mark.skipif(has_every_id(), reason="here every id is available")
def test_unavailable_owner_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ImgError, match="cannot give `f` to 4000000000:4000000000") as caught:
        unpack(entry(b"f", b"x", uid=4_000_000_000, gid=4_000_000_000) + END, tmp_path, owners=OwnerPolicy())
    assert "subuid" in (caught.value.hint or "")


def test_devices_are_made_or_counted(tmp_path: Path) -> None:
    stats = unpack(header(b"null", kind=b"3", devmajor=1, devminor=3, mode=0o666) + END, tmp_path)
    if stats.skipped_count:
        assert stats.skipped == [b"null"]
    else:
        assert stat.S_IMODE((tmp_path / "null").lstat().st_mode) == 0o666


def test_holes_stay_holes(tmp_path: Path) -> None:
    archive = archives.old_sparse(b"s", [(1 << 30, 512)], (1 << 30) + 512, b"x" * 512) + END
    unpack(archive, tmp_path)
    info = (tmp_path / "s").stat()
    assert info.st_size == (1 << 30) + 512
    assert info.st_blocks * 512 < 1 << 20


def test_very_deep_trees_unpack_and_are_removed(tmp_path: Path) -> None:
    from img_core.files import fs

    archive = b"".join(archives.gnu_long(b"d/" * n + b"f") + entry(b"x", b"deep") for n in (1, 1000, 2000)) + END
    unpack(archive, tmp_path / "root")
    fs.remove_tree(str(tmp_path / "root"))
    assert not (tmp_path / "root").exists()
    shutil.rmtree(tmp_path)
