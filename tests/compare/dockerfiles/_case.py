"""What a Dockerfile of the comparison is, and the files of a build context."""

from __future__ import annotations

import os
import textwrap
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["COMMON", "Case", "Directory", "Fifo", "File", "Files", "HardLink", "Link", "write_files"]


@dataclass(frozen=True, slots=True)
class File:
    """A regular file; a file of the mode 0644 may be given by its content alone."""

    content: str | bytes = ""
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory; one that only needs to hold its files need not be listed."""

    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True, slots=True)
class HardLink:
    """Another name of a file that is listed before it."""

    path: str


@dataclass(frozen=True, slots=True)
class Fifo:
    """A named pipe."""

    mode: int = 0o644


Files = Mapping[str, str | bytes | File | Directory | Link | HardLink | Fifo]

#: The context of most of them.
COMMON: Files = {
    "a": "a\n",
    "b": "b\n",
    ".hidden": "h\n",
    "d": Directory(0o711),
    "d/x": File("x" * 5000, 0o751),
    "d/x-again": HardLink("d/x"),
    "d/y": "",
    "d/one.txt": "1",
    "d/two.txt": "2",
    "d/.dot": "dot",
    "d/deep": Directory(0o750),
    "d/deep/er/z": File("z", 0o600),
    "d/link-up": Link("../a"),
    "d/link-in": Link("one.txt"),
    "link-to-a": Link("a"),
    "link-to-d": Link("d"),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One Dockerfile (indented as you like) and how to build it.

    *before* is the Dockerfile of an image ``localhost/before`` that is built first. *buildah* says the same as *dockerfile* in words that
    Debian's buildah understands. *pages* are what ``http://web/…`` answers: path to content and Last-Modified.
    """

    dockerfile: str
    files: Files = field(default_factory=lambda: COMMON)
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    before: str = ""
    buildah: str = ""
    pages: Mapping[str, tuple[bytes, str]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The Dockerfile for img."""
        return textwrap.dedent(self.dockerfile).removeprefix("\n")

    @property
    def text_for_buildah(self) -> str:
        """The Dockerfile for buildah."""
        return textwrap.dedent(self.buildah or self.dockerfile).removeprefix("\n")

    @property
    def text_before(self) -> str:
        """The Dockerfile of the image that is built first."""
        return textwrap.dedent(self.before).removeprefix("\n")


def write_files(directory: Path, files: Files) -> None:
    """Write *files* below *directory*, every path with a modification time of its own, long ago."""
    for name, entry in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, File(entry) if isinstance(entry, str | bytes) else entry, directory)
    for path in sorted(directory.rglob("*"), reverse=True):
        seconds = 1_100_000_000 + zlib.crc32(str(path.relative_to(directory)).encode()) % 1_000_000
        os.utime(path, (seconds, seconds), follow_symlinks=False)


def _write(path: Path, entry: File | Directory | Link | HardLink | Fifo, root: Path) -> None:
    match entry:
        case File(content, mode):
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            path.chmod(mode)
        case Directory(mode):
            path.mkdir()
            path.chmod(mode)
        case Link(target):
            path.symlink_to(target)
        case HardLink(other):
            os.link(root / other, path)
        case Fifo(mode):
            os.mkfifo(path)
            path.chmod(mode)
