"""What a tar archive says about one file, and how much of it we are willing to believe."""

from __future__ import annotations

from dataclasses import dataclass

from img_core.spec.errors import ArchiveError

REGULAR = b"0"
HARD_LINK = b"1"
SYMLINK = b"2"
CHARACTER = b"3"
BLOCK_DEVICE = b"4"
DIRECTORY = b"5"
FIFO = b"6"

KINDS = {
    REGULAR: "file",
    HARD_LINK: "hard link",
    SYMLINK: "symlink",
    CHARACTER: "character device",
    BLOCK_DEVICE: "block device",
    DIRECTORY: "directory",
    FIFO: "FIFO",
}

MAX_ID = 2**32 - 2  #: 2**32 - 1 means "leave it alone" to chown(2)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that turn a hostile archive into one line instead of a full disk or memory."""

    members: int = 2_000_000
    name_length: int = 4095  #: bytes, what one system call takes
    record: int = 1 << 20  #: bytes of one pax or GNU long-name record
    sparse_segments: int = 100_000  #: data segments of one sparse file
    total_size: int | None = None  #: bytes of the uncompressed archive, when the caller knows a bound


class MissingLinkTarget(ArchiveError):
    """A hard link names something that is not in the tree (yet): maybe a file of a lower layer."""


class Member:
    """One entry. A plain slotted object: one is made per file, so it is cheap before it is convenient.

    *type* is one of the constants above (old and contiguous files are `REGULAR`); *size* is what the extracted file
    will have, *stored* what the archive holds for it; *sparse* lists ``(offset, length)`` of the stored segments.
    *mtime_ns* is in nanoseconds since 1970. *xattrs* is None when there are none.
    """

    __slots__ = (
        "devmajor",
        "devminor",
        "gid",
        "linkname",
        "mode",
        "mtime_ns",
        "name",
        "offset",
        "pax",
        "size",
        "sparse",
        "stored",
        "type",
        "uid",
        "xattrs",
    )

    def __init__(
        self, name: bytes, kind: bytes, mode: int, uid: int, gid: int, size: int, mtime_ns: int, linkname: bytes
    ) -> None:
        self.name = name
        self.type = kind
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        self.stored = size
        self.mtime_ns = mtime_ns
        self.linkname = linkname
        self.devmajor = 0
        self.devminor = 0
        self.pax: dict[bytes, bytes] | None = None
        self.xattrs: dict[bytes, bytes] | None = None
        self.sparse: list[tuple[int, int]] | None = None
        self.offset = 0  #: of its header in the archive, for messages

    def __repr__(self) -> str:
        return f"<{KINDS.get(self.type, '?')} {self.name!r}>"
