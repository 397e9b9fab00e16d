"""A strict, streaming tar reader for archives of strangers: ustar, pax, GNU and v7.

It differs from `tarfile` where that matters: damage is an error, never a silent end; no record is larger than a bound;
where other readers disagree about the meaning (a directory with data, contradicting names) the archive is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from img_core.archives.tar import pax, sparse
from img_core.archives.tar.header import (
    BLOCK,
    FIELDS,
    ZERO_BLOCK,
    is_header,
    parse_number,
    text,
)
from img_core.archives.tar.member import DIRECTORY, HARD_LINK, KINDS, MAX_ID, REGULAR, SYMLINK, Limits, Member
from img_core.files import fs
from img_core.spec.errors import ArchiveError

if TYPE_CHECKING:
    from img_core.archives.codecs import Readable

__all__ = ["TarReader"]

_CHUNK = 1 << 20
_NANOSECONDS = 10**9
_FURTHEST = 2**55  # seconds; the kernel clamps what its file system cannot store
_SIZE_LIMIT = 2**63 - 1

#: Type letters that mean one of ours: v7 and contiguous files, old GNU sparse files.
_ALIASES = {b"\0": REGULAR, b"7": REGULAR, b"S": REGULAR}

#: Keywords that make no sense for all following entries at once.
_NEVER_GLOBAL = (b"path", b"linkpath", b"size", b"GNU.sparse.", *pax.XATTR_PREFIXES)


_GLOBAL = (b"uid", b"gid", b"mtime")


class _Extended:
    """What extended headers said about the entry that follows them."""

    __slots__ = ("long_link", "long_name", "records", "segments")

    def __init__(self) -> None:
        self.long_name: bytes | None = None
        self.long_link: bytes | None = None
        self.records: dict[bytes, bytes] | None = None
        self.segments: list[tuple[int, int]] = []


class TarReader:
    """Iterate over the members of an uncompressed archive; read a member's data before going on, or it is skipped.

    Every problem is an `ArchiveError` that names the entry and the byte where its header starts. A complete iteration
    has read *source* to its end and found only zero padding behind the archive.
    """

    def __init__(self, source: Readable, *, limits: Limits | None = None) -> None:
        self._source = source
        self._limits = limits or Limits()
        self._buffer = b""
        self._position = 0  # in the buffer
        self._base = 0  # offset of the buffer in the archive
        self._left = 0  # bytes of the current member's data not read yet
        self._padding = 0
        self._globals: dict[bytes, bytes] = {}
        self.count = 0  #: members so far
        self.source_error: OSError | None = None  #: set when reading *source* failed, e.g. the network

    # -- bytes

    @property
    def offset(self) -> int:
        """Bytes of the archive consumed so far."""
        return self._base + self._position

    def _fill(self, wanted: int) -> bool:
        """Have at least *wanted* bytes in the buffer; False when the stream ends before."""
        parts = [self._buffer[self._position :]]
        have = len(parts[0])
        while have < wanted:
            try:
                chunk = self._source.read(_CHUNK)
            except OSError as err:
                self.source_error = err
                raise
            if not chunk:
                break
            parts.append(chunk)
            have += len(chunk)
        self._base += self._position
        self._position = 0
        self._buffer = b"".join(parts)
        return have >= wanted

    def _block(self) -> bytes | None:
        """Return the next 512 bytes, or None when the stream ends exactly here."""
        start = self._position
        end = start + BLOCK
        if end > len(self._buffer):
            if not self._fill(BLOCK):
                if self._buffer:
                    self._fail("the archive is cut inside a header")
                return None
            start, end = 0, BLOCK
        self._position = end
        return self._buffer[start:end]

    def _needed_block(self) -> bytes:
        block = self._block()
        if block is None:
            self._fail("the archive ends early")
        return block

    def read(self, size: int = _CHUNK) -> bytes:
        """Return between 1 and *size* bytes of the current member's data, or nothing at its end."""
        size = min(size, self._left)
        if size <= 0:
            return b""
        start = self._position
        if start == len(self._buffer):
            if not self._fill(1):
                self._fail("the archive ends inside the data of an entry")
            start = 0
        data = self._buffer[start : start + size]
        self._position = start + len(data)
        self._left -= len(data)
        return data

    def chunks(self) -> Iterator[bytes]:
        """Yield the rest of the current member's data."""
        while data := self.read():
            yield data

    def read_exactly(self, size: int) -> bytes:
        """Return *size* bytes of the current member's data, which must have as many."""
        if self._left < size:
            self._fail("the archive holds too little data for an entry")
        parts = []
        while size:
            data = self.read(size)
            parts.append(data)
            size -= len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _skip(self) -> None:
        """Go behind the current member's data and padding.

        An archive that ends right behind the data is whole: some tools (umoci) do not pad the last entry.
        """
        padding, size = self._padding, self._left + self._padding
        self._left = self._padding = 0
        available = len(self._buffer) - self._position
        while size > available:
            size -= available
            self._position = len(self._buffer)
            if not self._fill(1):
                if size > padding:
                    self._fail("the archive ends inside the data of an entry")
                return
            available = len(self._buffer)
        self._position += size

    def _set_data(self, size: int) -> None:
        self._left = size
        self._padding = -size % BLOCK
        total = self._limits.total_size
        if total is not None and self.offset + size > total:
            self._fail(f"the archive is larger than the {total} bytes it may have")

    def _fail(self, reason: str, name: bytes | None = None, offset: int | None = None) -> NoReturn:
        entry = f"entry `{fs.show(name[:200])}` " if name else ""
        raise ArchiveError(f"bad tar archive: {reason} ({entry}at byte {self.offset if offset is None else offset})")

    # -- members

    def __iter__(self) -> Iterator[Member]:
        while True:
            if self._left or self._padding:
                self._skip()
            member = self._next()
            if member is None:
                return
            self.count += 1
            if self.count > self._limits.members:
                self._fail(f"more than {self._limits.members} entries")
            if member.name:  # GNU tar and Go's readers take one without a name for the root, and leave that alone
                yield member

    def _next(self) -> Member | None:
        """Read headers up to and including the one of a real entry; None at the end of the archive."""
        extended: _Extended | None = None
        while True:
            offset = self.offset
            header = self._block()
            if header is None or header == ZERO_BLOCK:
                if extended is not None:
                    self._fail("an extended header describes nothing", offset=offset)
                if header is not None:
                    self._finish()
                return None
            fields = FIELDS.unpack(header)
            good = is_header(header)
            if not good and offset == 0 and not fields[9].startswith(b"ustar"):
                # Something else, whose content is not ours to show.
                self._fail("it does not begin with a tar header", offset=offset)
            name = fields[0].partition(b"\0")[0]
            try:
                if not good:
                    raise ValueError("wrong header checksum")
                kind = fields[7]
                if kind in b"xgLK":
                    extended = self._read_extended(kind, parse_number(fields[4]), extended)
                    continue
                member = self._member(fields, name, extended)
                member.offset = offset
                if kind == b"S":
                    if extended is not None and extended.records is not None:
                        raise ValueError("two ways to describe a sparse file")
                    self._read_old_sparse(header, member)
                elif extended is not None:
                    self._apply(member, extended)
                self._check(member)
            except ValueError as err:
                self._fail(str(err), name, offset)
            self._set_data(member.stored)
            if extended is not None and extended.records is not None and b"GNU.sparse.major" in extended.records:
                self._read_embedded_map(member)
            return member

    def _member(self, fields: tuple[bytes, ...], name: bytes, extended: _Extended | None) -> Member:
        """Make the member that the header alone describes."""
        kind = fields[7]
        if fields[9] == b"ustar\0" and fields[15][0]:
            name = text(fields[15]) + b"/" + name
        try:
            member = Member(
                name,
                _ALIASES.get(kind, kind),
                parse_number(fields[1]),
                parse_number(fields[2]),
                parse_number(fields[3]),
                parse_number(fields[4]),
                parse_number(fields[5]) * _NANOSECONDS,
                text(fields[8]),
            )
            if kind in b"34":
                member.devmajor = parse_number(fields[13])
                member.devminor = parse_number(fields[14])
        except ValueError as err:
            raise ValueError(f"a header field is {err}") from None
        if self._globals:
            self._apply_metadata(member, self._globals)
        if extended is not None:
            member.name = member.name if extended.long_name is None else extended.long_name
            member.linkname = member.linkname if extended.long_link is None else extended.long_link
        return member

    def _check(self, member: Member) -> None:
        """Refuse what no sane archive contains, or what other readers understand differently."""
        kind = member.type
        name = member.name
        if kind not in KINDS:
            raise ValueError(f"unknown entry type {kind!r}"[:60])
        if len(name) > self._limits.name_length or len(member.linkname) > self._limits.name_length:
            raise ValueError("a name is too long")
        if not 0 <= member.size <= _SIZE_LIMIT or not 0 <= member.stored <= _SIZE_LIMIT:
            raise ValueError("impossible size")
        if not (0 <= member.uid <= MAX_ID and 0 <= member.gid <= MAX_ID):
            raise ValueError("impossible owner")
        if not 0 <= member.mode < 2**32 or not abs(member.mtime_ns) < _FURTHEST * _NANOSECONDS:
            raise ValueError("impossible mode or time")
        if kind == REGULAR:
            if name[-1:] == b"/":  # how v7 says "directory"
                if member.stored:
                    raise ValueError("a directory has data")
                member.type = DIRECTORY
            return
        if kind == HARD_LINK:
            member.size = member.stored = 0  # pax cpio-style links repeat the size of their target
        if member.stored:
            raise ValueError(f"a {KINDS[kind]} has data")
        if kind in (HARD_LINK, SYMLINK) and not member.linkname:
            raise ValueError("a link has no target")

    def _finish(self) -> None:
        """After the first zero block: only zeros may follow, to the end of the stream."""
        while True:
            rest = self._buffer[self._position :]
            if rest.count(0) != len(rest):
                self._fail("data after the end of the archive")
            self._position = len(self._buffer)
            total = self._limits.total_size
            if total is not None and self.offset > total:
                self._fail(f"the archive is larger than the {total} bytes it may have")
            if not self._fill(1):
                return

    # -- extended headers

    def _read_extended(self, kind: bytes, size: int, extended: _Extended | None) -> _Extended | None:
        """Read the body of an ``x``, ``g``, ``L`` or ``K`` header and note it for the next entry."""
        if not 0 <= size <= self._limits.record:
            raise ValueError("an extended header is too large")
        self._set_data(size)
        body = self.read_exactly(size)
        self._skip()
        if kind == b"g":
            records, segments = pax.parse(body)
            if segments or any(keyword.startswith(_NEVER_GLOBAL) for keyword in records):
                raise ValueError("a global extended header names a single file")
            # Only what counts is kept: comments of a thousand such headers would be a gigabyte.
            self._globals.update({keyword: records[keyword] for keyword in _GLOBAL if keyword in records})
            return extended
        extended = extended or _Extended()
        if kind == b"x":
            if extended.records is not None:
                raise ValueError("two extended headers for one entry")
            extended.records, extended.segments = pax.parse(body)
        elif kind == b"L":
            if extended.long_name is not None:
                raise ValueError("two long names for one entry")
            extended.long_name = text(body)
        else:
            if extended.long_link is not None:
                raise ValueError("two long link names for one entry")
            extended.long_link = text(body)
        return extended

    def _apply(self, member: Member, extended: _Extended) -> None:
        """Let pax records override the header."""
        records = extended.records
        if records is None:
            return
        path = records.get(b"path")
        linkpath = records.get(b"linkpath")
        if (path is not None and extended.long_name not in (None, path)) or (
            linkpath is not None and extended.long_link not in (None, linkpath)
        ):
            raise ValueError("two different names for one entry")
        if path == b"":  # readers disagree whether that takes the name away
            raise ValueError("an entry has no name")
        member.name = member.name if path is None else path
        member.linkname = member.linkname if linkpath is None else linkpath
        if b"\0" in member.name or b"\0" in member.linkname:
            raise ValueError("a name contains NUL")
        if b"size" in records:
            member.size = member.stored = pax.parse_decimal(records[b"size"])
        self._apply_metadata(member, records)
        member.pax = records
        member.xattrs = pax.xattrs(records)
        if any(keyword.startswith(b"GNU.sparse.") for keyword in records):
            self._apply_sparse(member, records, extended.segments)
        elif extended.segments:
            raise ValueError("incomplete sparse map")

    def _apply_metadata(self, member: Member, records: dict[bytes, bytes]) -> None:
        if b"uid" in records:
            member.uid = pax.parse_decimal(records[b"uid"])
        if b"gid" in records:
            member.gid = pax.parse_decimal(records[b"gid"])
        if b"mtime" in records:
            member.mtime_ns = pax.parse_time(records[b"mtime"])

    # -- sparse files

    def _read_old_sparse(self, header: bytes, member: Member) -> None:
        segments, size = sparse.read_old(header, self._needed_block, self._limits.sparse_segments)
        member.size = size
        member.sparse = sparse.check(segments, size, member.stored)

    def _apply_sparse(self, member: Member, records: dict[bytes, bytes], segments: list[tuple[int, int]]) -> None:
        """Understand the pax sparse formats; the map of 1.0 follows later, see `_read_embedded_map`."""
        if member.type != REGULAR:
            raise ValueError(f"a sparse {KINDS.get(member.type, 'entry')}")
        member.name = records.get(b"GNU.sparse.name", member.name)
        if b"\0" in member.name:
            raise ValueError("a name contains NUL")
        if b"GNU.sparse.major" in records:
            version = records[b"GNU.sparse.major"], records.get(b"GNU.sparse.minor")
            if version != (b"1", b"0"):
                raise ValueError("unknown sparse format")
            member.size = pax.parse_decimal(records.get(b"GNU.sparse.realsize", b"?"))
            return
        size = records.get(b"GNU.sparse.size", records.get(b"GNU.sparse.realsize", b"?"))
        member.size = pax.parse_decimal(size)
        if b"GNU.sparse.map" in records:
            segments = sparse.from_list(records[b"GNU.sparse.map"], self._limits.sparse_segments)
        if len(segments) != pax.parse_decimal(records.get(b"GNU.sparse.numblocks", b"?")):
            raise ValueError("incomplete sparse map")
        member.sparse = sparse.check(segments, member.size, member.stored)

    def _read_embedded_map(self, member: Member) -> None:
        def read_block() -> bytes:
            return self.read_exactly(BLOCK)

        try:
            segments, used = sparse.read_embedded(read_block, member.stored, self._limits.sparse_segments)
            member.stored -= used
            member.sparse = sparse.check(segments, member.size, member.stored)
        except ValueError as err:
            self._fail(str(err), member.name, member.offset)
