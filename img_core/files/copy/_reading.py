"""What is known of the content of files while they are looked at and copied: each is read once, for its digest and its copy."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from typing import TYPE_CHECKING, Any, Protocol

from img_core.files import fs, xattrs
from img_core.linux.parallel import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from img_core.files.copy._tree import FileInfo

__all__ = ["FileHashes", "Outline", "Reading", "marks_of"]

_BLOCK = 1 << 20

# What is read for a key is kept for the copy, which follows if nothing is recorded for the key: so many bytes for one instruction,
# of which each file takes some for itself. Beyond that the copy reads again, from the page cache.
_HELD = 16 << 20
_HELD_WITH_EACH = 500

# An outline has the sizes of files, and of large ones so many bytes at their begin, in their middle and at their end.
_LARGE = 1 << 20
_SAMPLE = 4096

# A file that changed this recently may change again without a visible change of its times: clocks of file systems are coarse
# (2 s on FAT, a tick on ext4, another machine's on NFS). Such a digest is not remembered.
_SETTLED_NS = 2_000_000_000


class FileHashes(Protocol):
    """Remembers digests of files by device, inode, size, mtime and ctime."""

    def get(self, info: Any) -> str | None:  # Any: a stat result, or something with the same five attributes
        """Return what `put` got for a file with the same five values."""

    def put(self, info: Any, value: str) -> None:  # Any: as above
        """Remember *value*, an opaque text of some hundred characters at most."""

    def save(self) -> None:
        """Keep what was put."""


class Reading:
    """One look at the files of a tree, for a digest and for a copy: what *hashes* remembers of them, and what was read since.

    The value of a file is its sha256; with *marked*, behind a ``+``, a digest of its portable attributes and what is noted on it, too.
    """

    def __init__(self, hashes: FileHashes | None = None, *, marked: bool = False) -> None:
        self._hashes = hashes
        self._marked = marked
        self._before = time.time_ns() - _SETTLED_NS
        self._here: dict[
            tuple[int, ...], str
        ] = {}  # what is not remembered, by all that tells two states of a file apart
        self._held: dict[tuple[int, ...], bytes] = {}  # content, likewise
        self._may_hold = _HELD

    def get(self, info: FileInfo) -> str | None:
        """Return the value of the file that was seen with *info*, if that is known."""
        return self._remembered(info) or self._here.get(_state(info))

    def can_hold(self, files: Iterable[FileInfo]) -> bool:
        """Tell whether all that is not known of the content of *files* would be kept for a copy if it were read now."""
        regular = [info for info in files if stat.S_ISREG(info.st_mode)]
        return self._have_room(regular) or self._have_room([info for info in regular if not self.get(info)])

    def _have_room(self, files: list[FileInfo]) -> bool:
        return sum(info.st_size + _HELD_WITH_EACH for info in files) <= self._may_hold

    def read(self, fd: int, info: FileInfo, check: Callable[[], None]) -> bool:
        """Read the value of the open file *fd*; return False if it is too short, or had another value before."""
        held: list[bytes] | None = [] if self._holds(fd, info) else None
        sum_, done = hashlib.sha256(), 0
        while done < info.st_size and (data := os.read(fd, min(info.st_size - done, _BLOCK))):
            sum_.update(data)
            done += len(data)
            if held is not None:
                held.append(data)
            check()
        if done != info.st_size or not self._keep(fd, info, sum_.hexdigest()):
            return False
        if held is not None:
            self._held[_state(info)] = b"".join(held)
            self._may_hold -= done + _HELD_WITH_EACH
        return True

    def _holds(self, fd: int, info: FileInfo) -> bool:
        """Tell whether the content of the open file *fd* is kept for a copy; holes are not, which a copy keeps."""
        if not 0 < info.st_size <= self._may_hold - _HELD_WITH_EACH:
            return False
        return os.fstat(fd).st_blocks * 512 >= info.st_size

    def copy(self, fd: int, target_fd: int, info: FileInfo) -> bool:
        """Copy the open file *fd* into the empty file *target_fd*, and take its value from what passes; returns what `read` does.

        A value that is remembered is right as long as the state of the file is the one it was seen in.
        """
        if (content := self._held.pop(_state(info), None)) is not None:
            self._may_hold += len(content) + _HELD_WITH_EACH
            fs.copy_known(fd, target_fd, content)
            return True
        if self._remembered(info):
            return fs.copy_file(fd, target_fd, info.st_size) == info.st_size
        sum_ = hashlib.sha256()
        with Worker(sum_.update, name="img-hash") as hashing:
            done = fs.copy_and_read(fd, target_fd, info.st_size, hashing.put)
        return done == info.st_size and fs.of_source(self._keep, fd, info, sum_.hexdigest())

    def confirm(self, fd: int, info: FileInfo, check: Callable[[], None]) -> bool:
        """Return what `read` does, and read the open file *fd*, whose content somebody just used, only if its times cannot tell that."""
        return bool(self._remembered(info)) or self.read(fd, info, check)

    def save(self) -> None:
        """Let what may be remembered be remembered."""
        if self._hashes is not None:
            self._hashes.save()

    def _remembered(self, info: FileInfo) -> str | None:
        return self._hashes.get(info) if self._hashes is not None else None

    def _keep(self, fd: int, info: FileInfo, value: str) -> bool:
        """Keep the value of a file; return False if it was read before and had another one: then its times do not tell that it changed."""
        if self._marked and (marks := marks_of(fd)):
            value += "+" + marks
        if self._hashes is not None and max(info.st_mtime_ns, info.st_ctime_ns) < self._before:
            self._hashes.put(info, value)
            return True
        return self._here.setdefault(_state(info), value) == value


class Outline(Reading):
    """A quick look at the files of a tree: files with other content nearly always have another size, or differ in one of these blocks."""

    def get(self, info: FileInfo) -> str | None:
        """Return the size of a small file, and what `read` found in a large one."""
        return str(info.st_size) if info.st_size < _LARGE else super().get(info)

    def read(self, fd: int, info: FileInfo, check: Callable[[], None]) -> bool:
        """Look at three blocks of the open file *fd*."""
        check()
        blocks = [os.pread(fd, _SAMPLE, start) for start in (0, info.st_size // 2, info.st_size - _SAMPLE)]
        return self._keep(fd, info, f"{info.st_size} {hashlib.sha256(b''.join(blocks)).hexdigest()}")


def _state(info: FileInfo) -> tuple[int, ...]:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def marks_of(fd: int) -> str:
    """Return a text for the portable attributes of *fd*, and the owner (behind ``@``) and mode (``%``) noted on it; empty for none.

    Raises OSError if the disk fails.
    """
    try:
        attributes, owner, mode = xattrs.read_all(fd)
    except OSError as err:
        if err.errno in (errno.EIO, errno.ESTALE):  # it may have some
            raise
        return ""
    text = ""
    if attributes:
        joined = b"".join(b"%b\0%d\0%b" % (name, len(value), value) for name, value in sorted(attributes.items()))
        text = hashlib.sha256(joined).hexdigest()
    return text + (f"@{owner[0]}:{owner[1]}" if owner else "") + (f"%{mode:o}" if mode is not None else "")
