"""A context and a root to copy into, and archives, for tests of what COPY and ADD do."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path

from img_core.archives import unpacking
from img_core.files.copy import SourceTree, apply, select
from img_core.files.ownership import OWNER_ATTRIBUTE, Owners
from img_core.spec.graph import Copy, FileAction

__all__ = ["LINK", "NOW", "Bench", "Member", "archive", "write"]


NOW = 1_700_000_000_000_000_000


class Bench:
    """A context and a root; nothing needs privileges because owners are recorded."""

    def __init__(self, base: Path) -> None:
        self.context = base / "context"
        self.root = base / "root"
        self.outside = base / "outside"
        for path in (self.context, self.root, self.outside):
            path.mkdir()
        self.owners = Owners("single")
        self.warnings: list[str] = []

    def run(self, *actions: FileAction) -> None:
        root = os.open(self.root, os.O_PATH | os.O_DIRECTORY)
        context = os.open(self.context, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for action in actions:
                tree = SourceTree(context)
                selection = select(tree, action) if isinstance(action, Copy) else None
                self.warnings += apply([action], [selection], root, owners=self.owners, now_ns=NOW, archives=unpacking)
        finally:
            os.close(root)
            os.close(context)

    def copy(self, *sources: str, to: str, **options: object) -> None:
        self.run(Copy(0, sources, to, **options))  # type: ignore[arg-type]

    def add(self, *sources: str, to: str, **options: object) -> None:
        self.run(Copy(0, sources, to, unpack=True, add=True, **options))  # type: ignore[arg-type]

    def source(self, name: str, content: str = "", mode: int = 0o644) -> Path:
        return write(self.context / name, content or name, mode)

    def target(self, name: str, content: str = "", mode: int = 0o644) -> Path:
        return write(self.root / name, content or "old", mode)

    def text(self, name: str) -> str:
        path = self.root / name
        assert not path.is_symlink()
        return path.read_text()

    def mode(self, name: str) -> int:
        return stat.S_IMODE((self.root / name).lstat().st_mode)

    def owner(self, name: str) -> tuple[int, ...]:
        path = self.root / name
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            return self.owners.recorded.get(os.fsencode(name), (0, 0))
        try:
            return tuple(map(int, os.getxattr(path, OWNER_ATTRIBUTE).split(b":")))
        except OSError:
            return 0, 0

    def time(self, name: str) -> int:
        return int((self.root / name).lstat().st_mtime)

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*"))


def write(path: Path, content: str, mode: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    return path


def archive(members: Sequence[Member], *, compression: str = "") -> bytes:
    """A tar with ``(name, content or link text, fields)``; a name that ends in a slash is a directory."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{compression}", format=tarfile.GNU_FORMAT) as file:  # type: ignore[call-overload]
        for name, content, fields in members:
            info = tarfile.TarInfo(name)
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            for field, value in fields.items():
                setattr(info, field, value)
            data = content.encode() if info.type == tarfile.REGTYPE else b""
            if info.type == tarfile.SYMTYPE:
                info.linkname = content
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return stream.getvalue()


#: name, content or text of the link, fields of the header
Member = tuple[str, str, dict[str, object]]


LINK: dict[str, object] = {"type": tarfile.SYMTYPE}
