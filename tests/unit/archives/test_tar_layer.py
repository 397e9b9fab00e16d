"""Layers: changes to blob, blob to files, both digests in one pass."""

import gzip
import hashlib
import io
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from img_core.archives.tar import LayerInfo, OwnerPolicy, TarReader, unpack_stream, write_layer
from img_core.files import faults
from img_core.spec.errors import ArchiveError, ImgError, IntegrityError
from img_core.testing import archives
from img_core.testing.archives import END, entry, pax
from img_core.testing.trees import fingerprint

MINE = OwnerPolicy(force=(os.geteuid(), os.getegid()))
Change = tuple[bytes, os.stat_result | None]


def everything(top: Path) -> Iterator[Change]:
    for path in sorted(top.rglob("*")):
        yield os.fsencode(path.relative_to(top)), path.lstat()


def pack(top: Path, changes: list[Change] | None = None, **options: object) -> tuple[LayerInfo, bytes]:
    out = io.BytesIO()
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        info = write_layer(everything(top) if changes is None else changes, fd, out.write, **options)  # type: ignore[arg-type]
    finally:
        os.close(fd)
    return info, out.getvalue()


def unpack(data: bytes, root: Path, **options: object) -> LayerInfo:
    root.mkdir(exist_ok=True)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    pieces = [data[at : at + 50_000] for at in range(0, len(data), 50_000)]
    try:
        return unpack_stream(pieces, fd, "layer-apply", MINE, **options)[0]  # type: ignore[arg-type]
    finally:
        os.close(fd)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "bin/deep").mkdir(parents=True)
    (top / "bin/tool").write_bytes(os.urandom(1_500_000))
    (top / "bin/tool").chmod(0o4755)
    (top / "bin/tool2").hardlink_to(top / "bin/tool")
    (top / "bin/link").symlink_to("../bin/tool")
    (top / "bin/deep/ümlaut").write_text("x")
    (top / "bin/deep").chmod(0o2750)
    os.mkfifo(top / "fifo")
    os.setxattr(top / "bin/tool", "user.kept", b"1")
    os.setxattr(top / "bin", "user.overlay.opaque", b"y")
    for path in top.rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
    return top


@pytest.fixture(autouse=True)
def _no_thread_survives() -> Iterator[None]:
    yield
    assert threading.active_count() == 1


@pytest.mark.parametrize("compression", ["gzip", "zstd", "uncompressed"])
def test_a_tree_survives_the_round_trip(compression: str, tree: Path, tmp_path: Path) -> None:
    info, blob = pack(tree, compression=compression)
    assert info.digest == f"sha256:{hashlib.sha256(blob).hexdigest()}"
    assert info.size == len(blob)
    codec = None if compression == "uncompressed" else compression
    result = unpack(blob, tmp_path / "copy", compression=codec, expected_digest=info.digest, expected_size=info.size,
                    expected_diff_id=info.diff_id)  # fmt: skip
    assert (result.diff_id, result.digest, result.size) == (info.diff_id, info.digest, info.size)
    assert result.uncompressed_size == info.uncompressed_size
    os.removexattr(tree / "bin", "user.overlay.opaque")  # must not travel
    assert fingerprint(str(tmp_path / "copy")) == fingerprint(str(tree))


def test_same_tree_same_bytes(tree: Path) -> None:
    assert pack(tree) == pack(tree)
    info, blob = pack(tree)
    assert info.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(blob)).hexdigest()}"


def test_no_changes_make_the_well_known_empty_layer(tmp_path: Path) -> None:
    info, blob = pack(tmp_path, [])
    assert info.entries == 0
    assert info.diff_id == "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
    assert list(TarReader(io.BytesIO(gzip.decompress(blob)))) == []


def read(blob: bytes) -> dict[bytes, tuple[int, int, int, int]]:
    return {
        member.name: (member.mode, member.uid, member.gid, member.mtime_ns // 10**9)
        for member in TarReader(io.BytesIO(blob))
    }


def test_deletions_times_and_owners(tree: Path) -> None:
    os.setxattr(tree / "bin/deep", "user.img.owner", b"11:12")
    changes: list[Change] = [
        (b"bin", (tree / "bin").lstat()),
        (b"bin/deep", (tree / "bin/deep").lstat()),
        (b"bin/gone", None),
        (b"bin/link", (tree / "bin/link").lstat()),
    ]
    owners = {b"bin/link": (21, 22)}
    _, blob = pack(
        tree, changes, compression="uncompressed", clamp_mtime=1000, owner_of=lambda path, info: owners.get(path)
    )
    assert read(blob) == {
        b"bin/": (stat.S_IMODE((tree / "bin").stat().st_mode), 0, 0, 1000),
        b"bin/deep/": (0o2750, 11, 12, 1000),
        b"bin/.wh.gone": (0, 0, 0, 1000),
        b"bin/link": (0o777, 21, 22, 1000),
    }


def test_control_attributes_and_namespace_ids_do_not_travel() -> None:
    from img_core.files import xattrs

    v3 = bytes.fromhex("0100000300200000000000000000000000000000a0860100")
    assert xattrs.portable_capability(v3) == bytes.fromhex("0100000200200000000000000000000000000000")
    kept = [b"user.x", b"security.capability", b"user.overlayish"]
    dropped = [b"user.overlay.opaque", b"trusted.overlay.opaque", b"trusted.x", b"user.img.owner", b"security.selinux",
               b"security.ima", b"security.evm", b"system.posix_acl_access", b"user.fuseoverlayfs.opaque"]  # fmt: skip
    assert [name for name in kept + dropped if xattrs.is_portable(name)] == kept


def test_sockets_are_counted_and_left_out(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        old = os.getcwd()
        os.chdir(tmp_path)
        try:
            listener.bind("s")
        finally:
            os.chdir(old)
    info, _ = pack(tmp_path)
    assert (info.entries, info.sockets) == (0, 1)


def test_a_file_that_vanished_or_was_replaced_is_named(tree: Path) -> None:
    before = (tree / "bin/tool").lstat()
    (tree / "bin/tool").unlink()
    with pytest.raises(ImgError, match="changed while it was being read: `bin/tool`"):
        pack(tree, [(b"bin/tool", before)])
    (tree / "bin/tool").symlink_to("/etc/passwd")
    with pytest.raises(ImgError, match="changed while it was being read: `bin/tool`"):
        pack(tree, [(b"bin/tool", before)])
    (tree / "bin/tool").unlink()
    os.mkfifo(tree / "bin/tool")
    with pytest.raises(ImgError, match="changed while it was being read: `bin/tool`"):
        pack(tree, [(b"bin/tool", before)])


def test_a_parent_that_became_a_link_is_not_followed(tree: Path, tmp_path: Path) -> None:
    before = (tree / "bin/tool").lstat()
    (tree / "bin").rename(tmp_path / "elsewhere")
    (tree / "bin").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ImgError, match="changed while"):
        pack(tree, [(b"bin/tool", before)])


def test_a_file_that_looks_like_a_deletion_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".wh.x").touch()
    with pytest.raises(ImgError, match=r"cannot be called `\.wh\.x`"):
        pack(tmp_path)


def test_a_failing_sink_surfaces_in_the_caller(tree: Path) -> None:
    def sink(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    fd = os.open(tree, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="No space left"):
            write_layer(everything(tree), fd, sink, compression="uncompressed")
    finally:
        os.close(fd)


# ---------------------------------------------------------------------------------------------------------- unpacking

LAYER = entry(b"f", b"content" * 30_000) + END
BLOB = gzip.compress(LAYER, mtime=0)
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"
DIFF_ID = f"sha256:{hashlib.sha256(LAYER).hexdigest()}"
WRONG = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expected_digest": WRONG}, "digest is sha256:.* instead of sha256:0000"),
        ({"expected_diff_id": WRONG}, "diff id is sha256:.* instead of sha256:0000"),
        ({"expected_size": len(BLOB) - 1}, "larger than its"),
        ({"expected_size": len(BLOB) + 1}, "instead of"),
        ({"size_limit": 100_000}, "larger than the 100000 bytes"),
        ({"expected_digest": "md5:abc"}, "unsupported digest algorithm"),
    ],
)
def test_what_does_not_match_its_description_is_refused(
    options: dict[str, object], message: str, tmp_path: Path
) -> None:
    unpack(BLOB, tmp_path / "good", compression="gzip", expected_digest=DIGEST, expected_diff_id=DIFF_ID)
    with pytest.raises(IntegrityError, match=message):
        unpack(BLOB, tmp_path / "bad", compression="gzip", **options)


def test_a_cut_download_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=f"has {len(BLOB) // 2} bytes instead of {len(BLOB)}"):
        unpack(
            BLOB[: len(BLOB) // 2], tmp_path / "x", compression="gzip", expected_size=len(BLOB), expected_digest=DIGEST
        )


@pytest.mark.parametrize("position", [12, 200, len(BLOB) // 2, len(BLOB) - 6])
def test_a_flipped_byte_is_a_wrong_digest_and_not_a_bad_archive(position: int, tmp_path: Path) -> None:
    damaged = BLOB[:position] + bytes([BLOB[position] ^ 0x40]) + BLOB[position + 1 :]
    with pytest.raises(IntegrityError, match="digest is"):
        unpack(damaged, tmp_path / "x", compression="gzip", expected_size=len(BLOB), expected_digest=DIGEST)


def test_a_bad_archive_with_the_right_digest_is_a_bad_archive(tmp_path: Path) -> None:
    bad = archives.header(b"f", checksum=b"1") + bytes(200_000)
    digest = f"sha256:{hashlib.sha256(bad).hexdigest()}"
    with pytest.raises(ArchiveError, match="checksum"):
        unpack(bad, tmp_path / "x", compression=None, expected_size=len(bad), expected_digest=digest)


@pytest.mark.parametrize("threaded", [True, False])
def test_errors_of_the_source_surface_and_stop_everything(threaded: bool, tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield BLOB[:100]
        raise ConnectionResetError("reset")

    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(ConnectionResetError):
            unpack_stream(
                chunks(), fd, "layer-apply", MINE, compression="gzip", expected_size=None if threaded else 200
            )
    finally:
        os.close(fd)


def test_a_bad_archive_stops_the_source(tmp_path: Path) -> None:
    taken = 0

    def chunks() -> Iterator[bytes]:
        nonlocal taken
        yield archives.header(b"f", checksum=b"1")
        while True:
            taken += 1
            yield bytes(1 << 20)

    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(ArchiveError, match="checksum"):
            unpack_stream(chunks(), fd, "layer-apply", MINE, compression=None)
    finally:
        os.close(fd)
    assert taken < 20


def test_a_full_disk_at_any_moment_is_one_line(tree: Path, tmp_path: Path) -> None:
    _, blob = pack(tree, compression="uncompressed")
    faults.install()
    unpack(blob, tmp_path / "count", compression=None)
    total = faults.count()
    faults.uninstall()
    assert total > 8
    for number in range(1, total + 1):
        faults.install(fail_at=number)
        try:
            with pytest.raises(ImgError, match=r"^no space left on device: `"):
                unpack(blob, tmp_path / f"try{number}", compression=None)
        finally:
            faults.uninstall()


def test_attributes_too_large_for_a_file_system_are_one_line(tmp_path: Path) -> None:
    layer = pax({b"SCHILY.xattr.user.big": bytes(70_000)}) + entry(b"f", b"x") + END
    with pytest.raises(ArchiveError, match="cannot keep the extended attributes of `f`"):
        unpack(layer, tmp_path / "x", compression=None)
