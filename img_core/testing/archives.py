"""Archives that nobody should send us, built byte by byte.

Two supplies: `REFUSED` (must be an error) and `ACCEPTED` (odd, but good readers take them); `img_core.testing.archive_mutations` is an
endless stream of damaged ones. The building blocks (`header`, `entry`, `pax`, …) do no checking at all: that is their purpose. *outside* in
hostile archives is the absolute path of a directory that must stay untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = [
    "ACCEPTED",
    "BLOCK",
    "END",
    "REFUSED",
    "Case",
    "directory",
    "entry",
    "gnu_long",
    "hard_link",
    "header",
    "pax",
    "seeds",
    "symlink",
    "with_checksum",
]

BLOCK = 512
END = bytes(2 * BLOCK)

Field = int | bytes


def _number(value: Field, width: int) -> bytes:
    """An octal field of *width* bytes, or *value* itself when it is bytes."""
    if isinstance(value, bytes):
        return value.ljust(width, b"\0")[:width]
    if value < 0 or value >= 8 ** (width - 1):
        return base256(value, width)
    return b"%0*o\0" % (width - 1, value)


def base256(value: int, width: int) -> bytes:
    """GNU's form for numbers that octal digits cannot hold."""
    encoded = bytearray(value.to_bytes(width, "big", signed=value < 0))
    encoded[0] |= 0x80
    return bytes(encoded)


def header(
    name: bytes,
    *,
    kind: bytes = b"0",
    mode: Field = 0o644,
    uid: Field = 0,
    gid: Field = 0,
    size: Field = 0,
    mtime: Field = 1_000_000_000,
    linkname: bytes = b"",
    magic: bytes = b"ustar\x0000",
    devmajor: Field = 0,
    devminor: Field = 0,
    prefix: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """Return one header block; *checksum* replaces the right one."""
    block = b"".join(
        (
            name[:100].ljust(100, b"\0"),
            _number(mode, 8),
            _number(uid, 8),
            _number(gid, 8),
            _number(size, 12),
            _number(mtime, 12),
            b" " * 8,
            kind,
            linkname[:100].ljust(100, b"\0"),
            magic.ljust(8, b"\0"),
            bytes(64),
            _number(devmajor, 8),
            _number(devminor, 8),
            prefix[:167].ljust(167, b"\0"),
        )
    )
    return with_checksum(block) if checksum is None else block[:148] + checksum.ljust(8, b"\0") + block[156:]


def with_checksum(block: bytes) -> bytes:
    """Return the header *block* with the right checksum."""
    total = sum(block[:148]) + sum(block[156:BLOCK]) + 8 * 0x20
    return block[:148] + b"%06o\0 " % total + block[156:]


def padded(data: bytes) -> bytes:
    """Fill *data* up to a whole block."""
    return data + bytes(-len(data) % BLOCK)


def entry(name: bytes, data: bytes = b"", **fields: object) -> bytes:
    """A file with its data; a *size* among *fields* may lie."""
    fields.setdefault("size", len(data))
    return header(name, **fields) + padded(data)  # type: ignore[arg-type]  # the fields of `header`, by name


def directory(name: bytes, mode: int = 0o755, **fields: object) -> bytes:
    """A directory."""
    return header(name, kind=b"5", mode=mode, **fields)  # type: ignore[arg-type]  # the fields of `header`, by name


def symlink(name: bytes, target: bytes) -> bytes:
    """A symbolic link."""
    return header(name, kind=b"2", mode=0o777, linkname=target)


def hard_link(name: bytes, target: bytes) -> bytes:
    """A hard link."""
    return header(name, kind=b"1", linkname=target)


def record(keyword: bytes, value: bytes) -> bytes:
    """One pax record with its right length."""
    size = len(keyword) + len(value) + 3
    length = size + len(str(size))
    length += len(str(length)) > len(str(size))
    return b"%d %b=%b\n" % (length, keyword, value)


def pax(records: dict[bytes, bytes] | bytes, kind: bytes = b"x") -> bytes:
    """An extended header with *records*, or with a body that is not well-formed."""
    body = records if isinstance(records, bytes) else b"".join(record(*item) for item in records.items())
    return entry(b"PaxHeaders.0/x", body, kind=kind)


def gnu_long(text: bytes, kind: bytes = b"L") -> bytes:
    """A GNU long name (``L``) or long link name (``K``)."""
    return entry(b"././@LongLink", text + b"\0", kind=kind, magic=b"ustar  \0")


def old_sparse(name: bytes, segments: list[tuple[int, int]], size: int, data: bytes) -> bytes:
    """An old GNU sparse file with its extension blocks."""
    pairs = [_number(offset, 12) + _number(length, 12) for offset, length in segments]
    first = b"".join(pairs[:4]).ljust(96, b"\0")
    rest = [pairs[at : at + 21] for at in range(4, len(pairs), 21)]
    block = header(name, kind=b"S", size=len(data), magic=b"ustar  \0")
    block = block[:386] + first + bytes([bool(rest)]) + _number(size, 12) + block[495:]
    extensions = b"".join(
        (b"".join(part).ljust(504, b"\0") + bytes([at + 1 < len(rest)])).ljust(BLOCK, b"\0")
        for at, part in enumerate(rest)
    )
    return with_checksum(block) + extensions + padded(data)


@dataclass(frozen=True, slots=True)
class Case:
    """One archive; *make* gets the absolute path of the directory that must stay untouched."""

    name: str
    make: Callable[[bytes], bytes]
    modes: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


_ALL = ("plain", "layer-apply", "layer-overlay")
_LAYERS = ("layer-apply", "layer-overlay")


def _case(name: str, *parts: bytes, end: bytes = END, modes: tuple[str, ...] | None = None) -> Case:
    """A case that does not depend on the outside directory, or names it by ``@OUT@`` in names and links."""
    return Case(name, lambda outside: _resolve(parts, outside) + end, modes or _ALL)


def _resolve(parts: tuple[bytes, ...], outside: bytes) -> bytes:
    """Put *outside* in the place of the marker, in headers of 512 bytes whose checksum is then made right."""
    whole = bytearray()
    for part in parts:
        if b"@OUT@" in part[:BLOCK]:
            block = part[:BLOCK]
            for at, width in ((0, 100), (157, 100)):
                field = block[at : at + width].rstrip(b"\0").replace(b"@OUT@", outside)
                block = block[:at] + field[:width].ljust(width, b"\0") + block[at + width :]
            part = with_checksum(block) + part[BLOCK:]
        whole += part
    return bytes(whole)


_FILE = entry(b"file", b"content\n")

#: Every reader of ours must raise ArchiveError for these, in the given modes.
REFUSED = [
    _case("dot-dot name", entry(b"../evil", b"x"), modes=_LAYERS),
    _case("dot-dot in the middle", entry(b"a/../../evil", b"x"), modes=_LAYERS),
    _case("hard link target with dot-dot", hard_link(b"l", b"../canary/file"), modes=_LAYERS),
    _case("hard link to a missing file", hard_link(b"l", b"missing")),
    _case("hard link outside by an absolute name", hard_link(b"l", b"@OUT@/file")),
    _case("hard link through a symlink to the outside", symlink(b"s", b"@OUT@"), hard_link(b"l", b"s/file")),
    _case("hard link to a directory", directory(b"d/"), hard_link(b"l", b"d")),
    _case("hard link to the root", hard_link(b"l", b"./")),
    _case("write through a dangling absolute link", symlink(b"s", b"@OUT@/no"), entry(b"s/f", b"x")),
    _case("write through a link to the outside", symlink(b"s", b"@OUT@"), entry(b"s/f", b"x")),
    _case("write through a circle of links", symlink(b"a", b"b"), symlink(b"b", b"a"), entry(b"a/f", b"x")),
    _case("file as a parent", _FILE, entry(b"file/x", b"x")),
    _case("root replaced by a symlink", symlink(b"./", b"@OUT@"), entry(b"f", b"x")),
    _case("root replaced by a file", entry(b".", b"x")),
    _case("whiteout without a name", entry(b".wh."), modes=_LAYERS),
    _case("whiteout of dot", entry(b"d/.wh.."), modes=_LAYERS),
    _case("whiteout of dot-dot", entry(b"d/.wh..."), modes=_LAYERS),
    _case("whiteout as a directory", entry(b".wh.d/f"), modes=_LAYERS),
    _case("forged overlay whiteout", header(b"dev", kind=b"3")),
    _case("impossible device number", header(b"dev", kind=b"4", devmajor=0o7777777, devminor=1)),
    _case("wrong checksum", header(b"f", checksum=b"000001\0 ")),
    _case("checksum is no number", header(b"f", checksum=b"abcdef\0 ")),
    _case("cut header", _FILE[:300], end=b""),
    _case("cut data", entry(b"f", b"x" * 2000)[:1500], end=b""),
    _case("size larger than the archive", entry(b"f", b"x", size=1 << 30)),
    _case("negative size", entry(b"f", b"x", size=-1)),
    _case("absurd size", entry(b"f", b"x", size=1 << 80)),
    _case("size with a sign", entry(b"f", b"x", size=b"-0000000001")),
    _case("size with an underscore", entry(b"f", b"x", size=b"0000000_001")),
    _case("size in decimal", entry(b"f", b"x", size=b"00000000009")),
    _case("negative uid", header(b"f", uid=-1)),
    _case("uid that means nobody", pax({b"uid": b"4294967295"}), _FILE),
    _case("negative pax size", pax({b"size": b"-5"}), _FILE),
    _case("huge pax uid", pax({b"uid": b"9" * 30}), _FILE),
    _case("time beyond all clocks", header(b"f", mtime=1 << 70)),
    _case("pax time is no number", pax({b"mtime": b"1.5x"}), _FILE),
    _case("pax record too long", pax(b"99 path=f\n"), _FILE),
    _case("pax record too short", pax(b"5 path=f\n"), _FILE),
    _case("pax record without length", pax(b"path=f\n"), _FILE),
    _case("pax record without keyword", pax(b"4 =\n"), _FILE),
    _case("pax record without newline", pax(b"9 path=fx"), _FILE),
    _case("contradicting pax records", pax(record(b"path", b"a") + record(b"path", b"b")), _FILE),
    _case("NUL in a pax path", pax({b"path": b"a\0b"}), _FILE),
    _case("NUL in a pax link", pax({b"linkpath": b"a\0b"}), symlink(b"l", b"a")),
    _case("two extended headers", pax({b"path": b"a"}), pax({b"path": b"a"}), _FILE),
    _case("two long names", gnu_long(b"a"), gnu_long(b"a"), _FILE),
    _case("long name against pax path", gnu_long(b"a"), pax({b"path": b"b"}), _FILE),
    _case("extended header at the end", pax({b"path": b"a"})),
    _case("global header with a path", pax({b"path": b"a"}, kind=b"g"), _FILE),
    _case("pax header larger than a record", entry(b"x", b"", kind=b"x", size=(1 << 20) + 1), bytes(1 << 20)),
    _case("long name larger than a record", entry(b"x", b"", kind=b"L", size=1 << 30)),
    _case("name longer than a path", gnu_long(b"a/" * 2100), _FILE),
    _case("component longer than a name", gnu_long(b"a" * 300), _FILE),
    _case("empty pax name", pax({b"path": b""}), _FILE),
    _case("symlink without target", symlink(b"l", b"")),
    _case("directory with data", entry(b"d/", b"x", kind=b"5")),
    _case("symlink with data", entry(b"l", b"x", kind=b"2", linkname=b"t")),
    _case("old directory with data", entry(b"d/", b"x")),
    _case("unknown type", header(b"f", kind=b"Z")),
    _case("multi-volume continuation", header(b"f", kind=b"M")),
    _case("entry after the end", END, _FILE),
    _case("garbage after one zero block", bytes(BLOCK), b"garbage".ljust(BLOCK)),
    _case("garbage at the very end", _FILE, end=END + b"x"),
    _case("overlapping sparse segments", old_sparse(b"f", [(0, 512), (100, 512)], 2048, b"x" * 1024)),
    _case("sparse segment behind the end", old_sparse(b"f", [(4096, 512)], 1024, b"x" * 512)),
    _case("sparse map against size", old_sparse(b"f", [(0, 512)], 1024, b"x" * 1024)),
    _case("pax sparse map cut", pax({b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.name": b"s",
                                     b"GNU.sparse.realsize": b"10"}), entry(b"f", b"9\n1\n")),
    _case("pax sparse map of a million", pax({b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0",
                                              b"GNU.sparse.realsize": b"10"}), entry(b"f", b"1000000\n".ljust(512, b"\0"))),
    _case("sparse symlink", pax({b"GNU.sparse.size": b"1", b"GNU.sparse.numblocks": b"0"}), symlink(b"l", b"t")),
]  # fmt: skip

_CAPABILITY_V2 = bytes.fromhex("0100000200200000000000000000000000000000")

#: Odd but right: these unpack, to the same tree as with GNU tar.
ACCEPTED = [
    _case("empty archive"),
    _case("nothing at all", end=b""),
    _case("no end marker", _FILE, end=b""),
    _case("one zero block", _FILE, end=bytes(BLOCK)),
    _case("long padding", _FILE, end=bytes(100 * BLOCK)),
    _case("odd padding", _FILE, end=END + b"\0" * 77),
    _case("v7 header", entry(b"f", b"old", kind=b"\0", magic=b"")),
    _case("v7 directory", header(b"d/", kind=b"\0", magic=b"", mode=0o750)),
    _case("contiguous file", entry(b"f", b"x", kind=b"7")),
    _case("leading slash", entry(b"/abs/f", b"x")),
    _case("entry without a name", header(b""), symlink(b"", b"t"), entry(b"", b"lost" * 300), _FILE),
    _case("leading dot slash", directory(b"./"), directory(b"./d/"), entry(b"./d/f", b"x")),
    _case("doubled slashes", entry(b"a//b///c", b"x")),
    _case("missing parents", entry(b"a/b/c/d", b"x")),
    _case("prefix field", entry(b"f", b"x", prefix=b"some/deep/prefix")),
    _case("gnu long name", gnu_long(b"d/" * 80 + b"f"), _FILE),
    _case("gnu long link", gnu_long(b"t" * 200, b"K"), symlink(b"l", b"t")),
    _case("pax path and link", pax({b"path": b"p" * 120, b"linkpath": b"q" * 120}), symlink(b"l", b"t")),
    _case("pax times", pax({b"mtime": b"1234567890.123456789"}), _FILE),
    _case("time before 1970", pax({b"mtime": b"-86400"}), _FILE),
    _case("negative base-256 time", header(b"f", mtime=-1000)),
    _case("pax size", pax({b"size": b"5"}), entry(b"f", b"hello", size=0)),
    _case("base-256 size", entry(b"f", b"hello", size=base256(5, 12))),
    _case("space-padded numbers", entry(b"f", b"hello", size=b"         5 ", mode=b"   644 ")),
    _case("global header", pax({b"comment": b"0" * 40}, kind=b"g"), _FILE),
    _case("global time", pax({b"mtime": b"1234567890"}, kind=b"g"), _FILE, entry(b"g", b"x")),
    _case("signed checksum", header(b"f\xff\xfe")),
    _case("names with control characters", entry(b"new\nline\x1b[31m", b"x"), entry(b"-dash", b"x")),
    _case("name that is not UTF-8", entry(b"caf\xe9", b"x")),
    _case("symlinks of all sorts", symlink(b"a", b"/etc/passwd"), symlink(b"b", b"../../up"), symlink(b"c", b"c")),
    _case("hard links", entry(b"f", b"x" * 1000), hard_link(b"g", b"f"), directory(b"d/"), hard_link(b"d/h", b"./f")),
    _case("hard link to a symlink", symlink(b"s", b"nowhere"), hard_link(b"l", b"s")),
    _case("file twice", entry(b"f", b"one"), entry(b"f", b"two")),
    _case("file replaces symlink", symlink(b"f", b"inside"), entry(b"f", b"new")),
    _case("read-only directory", directory(b"d/", 0o555), entry(b"d/f", b"x")),
    _case("directory twice", directory(b"d/", 0o700), entry(b"d/f", b"x"), directory(b"d/", 0o751)),
    _case("set-id and sticky", entry(b"su", b"x", mode=0o4755), directory(b"t/", 0o1777), directory(b"g/", 0o2755)),
    _case("fifo", header(b"p", kind=b"6", mode=0o622)),
    _case("empty files", entry(b"a"), entry(b"b"), entry(b"c")),
    _case("old sparse", old_sparse(b"s", [(0, 512), (4096, 512), (9000, 0)], 9000, b"a" * 512 + b"b" * 512)),
    _case("old sparse with extensions", old_sparse(b"s", [*((n * 1024, 512) for n in range(60)), (61440, 0)], 61440, b"z" * 30720)),
    _case("pax sparse 0.0", pax(record(b"GNU.sparse.size", b"4096") + record(b"GNU.sparse.numblocks", b"2")
                                + record(b"GNU.sparse.offset", b"0") + record(b"GNU.sparse.numbytes", b"3")
                                + record(b"GNU.sparse.offset", b"4096") + record(b"GNU.sparse.numbytes", b"0")),
          entry(b"s", b"abc")),
    _case("pax sparse 0.1", pax({b"GNU.sparse.size": b"4096", b"GNU.sparse.numblocks": b"2",
                                 b"GNU.sparse.name": b"s", b"GNU.sparse.map": b"1024,3,4096,0"}), entry(b"f", b"abc")),
    _case("pax sparse 1.0", pax({b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.name": b"s",
                                 b"GNU.sparse.realsize": b"4096"}),
          entry(b"f", b"2\n1024\n3\n4096\n0\n".ljust(512, b"\0") + b"abc")),
    _case("file under a link inside", directory(b"d/"), symlink(b"l", b"d"), entry(b"l/f", b"x")),
]  # fmt: skip


def seeds(outside: bytes) -> list[bytes]:
    """Archives without end marker that mutations start from: everything above and one with attributes."""
    rich = (
        pax({b"SCHILY.xattr.user.color": b"blue", b"SCHILY.xattr.user.overlay.opaque": b"y"}) + directory(b"etc/")
        + pax({b"SCHILY.xattr.security.capability": _CAPABILITY_V2}) + entry(b"etc/tool", b"#!", mode=0o755)
        + entry(b"etc/.wh.gone") + entry(b"etc/.wh..wh..opq") + symlink(b"etc/l", outside) + entry(b"etc/f", b"y" * 3000)
        + hard_link(b"etc/h", b"etc/f") + symlink(b"up", b"../../../../") + entry(b"z", b"z" * 600)
    )  # fmt: skip
    made = [case.make(outside).rstrip(b"\0") for case in ACCEPTED + REFUSED]
    return [rich, rich, rich, *(padded(item) for item in made if BLOCK <= len(item) < 100_000)]
