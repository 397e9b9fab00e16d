"""What is in tar archives, for suites of exporters that write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from img_core.archives.tar import TarReader
from img_core.archives.tar.member import HARD_LINK, REGULAR, SYMLINK, Member
from img_core.testing.contracts.exporter import ExporterContract
from img_core.testing.results import ReadyResult

__all__ = ["TarSuite", "attributes_of", "files_in_archive", "members"]


def files_in_archive(reader: TarReader) -> dict[bytes, bytes]:
    """Return the content of each file by its name, that of hard links, too."""
    files: dict[bytes, bytes] = {}
    for member in reader:
        if member.type == REGULAR:
            files[member.name] = b"".join(reader.chunks())
        elif member.type == HARD_LINK:
            files[member.name] = files[member.linkname]
    return files


def attributes_of(found: Iterable[Member]) -> dict[bytes, Mapping[bytes, bytes]]:
    """Return the extended attributes of each member that has some, by its name."""
    return {member.name.rstrip(b"/"): member.xattrs for member in found if member.xattrs}


def members(archive: Path) -> list[Member]:
    """Return all headers of an archive."""
    with archive.open("rb") as file:
        return list(TarReader(file))


class TarSuite(ExporterContract):
    """The contract of an exporter that writes one tar archive of all files."""

    def files(self, dest: Path, result: ReadyResult) -> Mapping[bytes, bytes]:
        with dest.open("rb") as file:
            return files_in_archive(TarReader(file))

    def links(self, dest: Path, result: ReadyResult) -> Mapping[bytes, bytes]:
        return {member.name: member.linkname for member in members(dest) if member.type == SYMLINK}

    def owners(self, dest: Path, result: ReadyResult) -> Mapping[bytes, tuple[int, int]] | None:
        return {member.name.rstrip(b"/"): (member.uid, member.gid) for member in members(dest)}

    def attributes(self, dest: Path, result: ReadyResult) -> Mapping[bytes, Mapping[bytes, bytes]] | None:
        return attributes_of(members(dest))
