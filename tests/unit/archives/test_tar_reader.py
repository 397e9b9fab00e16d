"""The reader against generated input, and against what the writer and GNU tar make."""

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from img_core.archives.tar import Member, TarReader, TarWriter, header, pax
from img_core.archives.tar.member import DIRECTORY, REGULAR, SYMLINK
from img_core.archives.tar.pipeline import Serial
from img_core.spec.errors import ArchiveError, ImgError
from img_core.testing import archives
from img_core.testing.archives import END, entry

NAMES = st.lists(
    st.binary(min_size=1, max_size=90).filter(lambda part: not set(part) & {0, 0x2F} and part not in (b".", b"..")),
    min_size=1,
    max_size=6,
).map(b"/".join)


class Dribble(io.RawIOBase):
    """Gives out the archive in odd, small pieces, as a network does."""

    def __init__(self, data: bytes) -> None:
        self.data = io.BytesIO(data)

    def read(self, size: int = -1, /) -> bytes:
        return self.data.read(min(size, 733))


def members(archive: bytes) -> list[tuple[Member, bytes]]:
    reader = TarReader(Dribble(archive))
    return [(member, b"".join(reader.chunks())) for member in reader]


def written(*entries: dict[str, object]) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    for fields in entries:
        writer.add(**fields)  # type: ignore[arg-type]
    writer.finish()
    return out.getvalue()


@settings(max_examples=300, deadline=None)
@given(
    name=NAMES,
    uid=st.integers(0, 2**32 - 2),
    gid=st.integers(0, 2**32 - 2),
    mode=st.integers(0, 0o7777),
    seconds=st.integers(-(2**40), 2**40),
    data=st.binary(max_size=1500),
    attributes=st.dictionaries(
        st.binary(min_size=1, max_size=20).filter(lambda key: b"=" not in key), st.binary(), max_size=3
    ),
)
def test_what_is_written_is_read(
    name: bytes, uid: int, gid: int, mode: int, seconds: int, data: bytes, attributes: dict[bytes, bytes]
) -> None:
    archive = written(
        {"name": name, "uid": uid, "gid": gid, "mode": mode, "mtime_ns": seconds * 10**9, "data": data,
         "xattrs": attributes}
    )  # fmt: skip
    [(member, content)] = members(archive)
    assert (member.name, member.type, member.mode, member.uid, member.gid) == (name, REGULAR, mode, uid, gid)
    assert (member.mtime_ns, content, member.xattrs or {}) == (seconds * 10**9, data, attributes)


@settings(max_examples=200, deadline=None)
@given(name=NAMES, target=NAMES)
def test_links_are_read_as_written(name: bytes, target: bytes) -> None:
    [(member, _)] = members(written({"name": name, "kind": SYMLINK, "linkname": target}))
    assert (member.name, member.linkname) == (name, target)


@settings(max_examples=300, deadline=None)
@given(
    records=st.dictionaries(
        st.binary(min_size=1, max_size=12).filter(lambda key: b"=" not in key), st.binary(max_size=200)
    )
)
def test_pax_records_survive(records: dict[bytes, bytes]) -> None:
    records = {key: value for key, value in records.items() if not key.startswith(b"GNU.sparse")}
    assert pax.parse(pax.build(records.items())) == (records, [])


@settings(max_examples=500, deadline=None)
@given(
    data=st.binary(max_size=200)
    | st.lists(st.sampled_from([b"9", b"1", b" ", b"=", b"\n", b"path", b"\0"])).map(b"".join)
)
def test_pax_parser_never_fails_otherwise(data: bytes) -> None:
    try:
        pax.parse(data)
    except ValueError as err:
        assert str(err).isprintable()


@given(number=st.integers(0, 0o7777777))
def test_octal_numbers(number: int) -> None:
    for text in (b"%07o\0", b"%o", b" %o ", b"%o\0x"):
        assert header.parse_number((text % number)[:8]) == number or len(text % number) > 8


@given(number=st.integers(-(2**62), 2**62))
def test_base256_numbers(number: int) -> None:
    assert header.parse_number(archives.base256(number, 12)) == number


@given(block=st.binary(min_size=512, max_size=512))
def test_fast_checksums_are_the_plain_sums(block: bytes) -> None:
    other = block[:148] + b" " * 8 + block[156:]
    assert header.checksum(block) == sum(other)
    assert header.signed_checksum(block) == sum(byte - 256 if byte > 127 else byte for byte in other)


@settings(max_examples=300, deadline=None)
@given(block=st.binary(min_size=512, max_size=512), more=st.binary(max_size=1100))
def test_arbitrary_headers_are_members_or_one_line(block: bytes, more: bytes) -> None:
    try:
        members(archives.with_checksum(block) + more)
    except ArchiveError as err:
        assert err.message.isprintable()
        assert "at byte" in err.message


def test_errors_name_entry_and_offset() -> None:
    bad = archives.header(b"bad\nname", checksum=b"0000001\0")
    with pytest.raises(ArchiveError, match=r"wrong header checksum \(entry `bad\\nname` at byte 1024\)"):
        members(entry(b"good", b"x") + bad)


def test_unread_data_is_skipped() -> None:
    archive = entry(b"a", os.urandom(3_000_000)) + entry(b"b", b"tail") + END
    names = []
    for member in (reader := TarReader(io.BytesIO(archive))):
        names.append(member.name)
        if member.name == b"a":
            assert len(reader.read(10)) == 10
    assert names == [b"a", b"b"]


def test_a_huge_record_costs_no_memory() -> None:
    import tracemalloc

    big = archives.header(b"x", kind=b"x", size=300 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError, match="too large"):
            members(big + bytes(1 << 20))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_many_global_headers_cost_no_memory() -> None:
    import tracemalloc

    def headers() -> Iterator[bytes]:
        for number in range(60):
            yield archives.pax({b"comment%d" % number: bytes(900_000)}, kind=b"g")
        yield END

    tracemalloc.start()
    try:
        assert list(TarReader(Serial(headers()))) == []
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_archives_of_gnu_tar_in_every_format_are_understood(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    deep = top / ("long-directory-name/" * 8)
    deep.mkdir(parents=True)
    (deep / ("f" * 150)).write_bytes(b"deep")
    (top / "link").symlink_to("t" * 180)
    (top / "hard").write_bytes(b"hard")
    (top / "hard2").hardlink_to(top / "hard")
    with open(top / "sparse", "wb") as file:
        for at in range(30):
            file.seek(at * 300_000)
            file.write(b"data")
        file.truncate(20_000_000)
    trees = {}
    for version in ("gnu", "pax", "oldgnu", "posix"):
        for sparse in ((), ("--sparse",), ("--sparse", "--sparse-version=0.0"), ("--sparse", "--sparse-version=0.1")):
            command = ["tar", f"--format={version}", *sparse, "--sort=name", "-C", str(top), "-cf", "-", "."]
            archive = subprocess.run(command, check=True, capture_output=True).stdout
            tree = {}
            for member, content in members(archive):
                if member.sparse is not None:
                    whole = bytearray(member.size)
                    for offset, length in member.sparse:
                        whole[offset : offset + length], content = content[:length], content[length:]
                    content = bytes(whole)
                tree[member.name.rstrip(b"/")] = (member.type, member.mode, member.linkname, content)
            trees[version, sparse] = tree
    first = next(iter(trees.values()))
    assert len(first) == 14
    for key, tree in trees.items():
        assert tree == first, key


def test_archives_of_ours_are_understood_by_the_standard_library() -> None:
    archive = written(
        {"name": b"d", "kind": DIRECTORY, "mode": 0o750, "uid": 3_000_000},
        {"name": "d/grün".encode(), "data": b"x" * 2000, "mtime_ns": 1_234_567_890 * 10**9},
        {"name": b"p/" * 70 + b"leaf", "data": b""},
        {"name": b"q" * 160, "data": b"", "xattrs": {b"user.k": b"v\0\n"}},
        {"name": b"l", "kind": SYMLINK, "linkname": b"t" * 130},
    )
    with tarfile.open(fileobj=io.BytesIO(archive)) as theirs:
        infos = theirs.getmembers()
    assert [info.name for info in infos] == ["d", "d/grün", ("p/" * 70) + "leaf", "q" * 160, "l"]
    assert infos[0].uid == 3_000_000
    assert infos[1].mtime == 1_234_567_890
    assert infos[3].pax_headers["SCHILY.xattr.user.k"] == "v\0\n"
    assert infos[4].linkname == "t" * 130


def test_large_sizes_use_pax() -> None:
    out: list[bytes] = []
    writer = TarWriter(out.append)
    with open("/dev/null", "rb") as nothing, pytest.raises(ImgError, match="changed while it was being read: `big`"):
        writer.add(b"big", size=9 << 30, data=nothing.fileno())
    writer.finish()
    reader = TarReader(io.BytesIO(b"".join(out)))
    assert next(iter(reader)).size == 9 << 30


@pytest.mark.parametrize("promised", [0, 5, 99_999, 100_001, 3_000_000])
def test_a_file_of_another_size_than_promised_is_an_error(promised: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100_000)
    writer = TarWriter(lambda block: None)
    with open(tmp_path / "f", "rb") as file, pytest.raises(ImgError, match="changed while"):
        writer.add(b"f", size=promised, data=file.fileno())


@pytest.mark.parametrize(("name", "uid"), [(b"", 0), (b"a\0b", 0), (b"f", -1), (b"f", 2**32 - 1)])
def test_impossible_entries_are_refused(name: bytes, uid: int) -> None:
    with pytest.raises(ImgError, match="impossible"):
        TarWriter(lambda block: None).add(name, uid=uid, data=b"")


def test_fractions_of_seconds_on_demand() -> None:
    out = io.BytesIO()
    writer = TarWriter(out.write, fractions=True)
    times = [1_000_000_000_500_000_000, -1_500_000_000, 7 * 10**9]
    for number, time in enumerate(times):
        writer.add(b"%d" % number, mtime_ns=time, data=b"")
    writer.finish()
    assert [member.mtime_ns for member, _ in members(out.getvalue())] == times


@pytest.mark.parametrize("end", [b"", b"\0" * 100])
def test_an_archive_that_ends_behind_the_data_of_its_last_entry_is_whole(end: bytes) -> None:
    """As ``umoci insert`` writes them; one byte less is damage."""
    archive = entry(b"first", b"one") + entry(b"last", b"x" * 600)
    cut = archive[: len(archive) - (-600 % 512)]
    assert [data for _, data in members(cut + end)] == [b"one", b"x" * 600]
    with pytest.raises(ArchiveError, match="ends inside the data"):
        members(cut[:-1])
