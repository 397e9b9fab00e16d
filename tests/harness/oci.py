"""Reads stored images with the standard library alone: a second opinion on what img writes."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import json
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

__all__ = ["Entry", "ImageArchive", "ImageDirectory", "StoredImage", "Tree"]

_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "fifo",
}
_XATTR = "SCHILY.xattr."


@dataclass(eq=False, slots=True)
class Entry:
    """One inode of a flattened tree; hard links share it."""

    kind: str
    mode: int
    uid: int
    gid: int
    content: str = ""  #: digest of a file, target of a link, numbers of a device
    attributes: Mapping[str, str] = field(default_factory=dict)
    mtime: float = 0.0


Record = tuple[str, Entry | None, str]  #: path, inode (None: a hard link), target of the hard link
Tree = dict[str, Entry]


class _Hashing:
    """Passes bytes on and hashes them."""

    def __init__(self, source: IO[bytes]) -> None:
        self.source = source
        self.hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self.source.read(size)
        self.hash.update(data)
        return data


_layers: dict[str, list[Record]] = {}  #: by diff id: two archives mostly have the same base


class StoredImage(ABC):
    """One image. Checks every digest, size and diff id while reading."""

    manifest: dict[str, Any]

    @abstractmethod
    def open(self, digest: str) -> AbstractContextManager[IO[bytes]]:
        """Open a stored blob."""

    @functools.cached_property
    def document(self) -> dict[str, Any]:
        """The whole image configuration."""
        return dict(json.loads(self.blob(self.manifest["config"])))

    @property
    def config(self) -> dict[str, Any]:
        """The part of it that says how to run the image."""
        return dict(self.document.get("config", {}))

    @property
    def diff_ids(self) -> list[str]:
        """The diff ids that the config claims."""
        return list(self.document["rootfs"]["diff_ids"])

    def tree(self) -> Tree:
        """Return the flattened root file system by path, the root itself left out."""
        tree: Tree = {}
        for records in self.layers():
            _apply(tree, records)
        return tree

    def layers(self) -> list[list[Record]]:
        """Return what each layer holds, in the layer's order."""
        descriptors = self.manifest["layers"]
        assert len(descriptors) == len(self.diff_ids), "as many diff ids as layers"
        return [
            _layers.get(diff_id) or self._layer(descriptor, diff_id)
            for descriptor, diff_id in zip(descriptors, self.diff_ids, strict=True)
        ]

    def _layer(self, descriptor: Mapping[str, Any], diff_id: str) -> list[Record]:
        with self.open(descriptor["digest"]) as stored, _decompressed(stored, descriptor["mediaType"]) as stream:
            source = _Hashing(stream)
            records = list(_records(source))
            while source.read(1 << 20):
                pass
        assert f"sha256:{source.hash.hexdigest()}" == diff_id, f"{descriptor['digest']} is not what its diff id says"
        return _layers.setdefault(diff_id, records)

    def blob(self, descriptor: Mapping[str, Any]) -> bytes:
        """Return the bytes that *descriptor* names."""
        with self.open(descriptor["digest"]) as file:
            content = file.read()
        assert len(content) == descriptor["size"]
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == descriptor["digest"]
        return content


class ImageArchive(StoredImage):
    """An image in an OCI archive; *choose* is a text in the description of the wanted one of several."""

    def __init__(self, path: Path, *, choose: str | None = None) -> None:
        self._path = path
        with self._member("index.json") as file:
            self.index = json.load(file)
        entries = self.index["manifests"]
        entry = entries[0] if choose is None else next(e for e in entries if choose in json.dumps(e))
        self.digest: str = entry["digest"]
        self.manifest = json.loads(self.blob(entry))

    @contextlib.contextmanager
    def open(self, digest: str) -> Iterator[IO[bytes]]:
        with self._member("blobs/" + digest.replace(":", "/")) as file:
            yield file

    @contextlib.contextmanager
    def _member(self, name: str) -> Iterator[IO[bytes]]:
        with tarfile.open(self._path) as archive:
            file = archive.extractfile(name)
            assert file is not None, name
            yield file


class ImageDirectory(StoredImage):
    """An image in a directory as ``dir:`` of containers-transports(5) writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.manifest = json.loads((path / "manifest.json").read_bytes())

    def open(self, digest: str) -> IO[bytes]:
        return (self._path / digest.removeprefix("sha256:")).open("rb")


@contextlib.contextmanager
def _decompressed(stored: IO[bytes], media_type: str) -> Iterator[IO[bytes]]:
    if media_type.endswith("gzip"):
        with gzip.GzipFile(fileobj=stored) as stream:
            yield stream  # type: ignore[misc]  # GzipFile reads bytes
    else:
        yield stored


def _records(source: _Hashing) -> Iterator[Record]:
    with tarfile.open(fileobj=source, mode="r|") as layer:  # type: ignore[call-overload]  # whatever has read()
        for member in layer:
            path = member.name.removeprefix("./").strip("/")
            if path in ("", "."):
                continue
            if member.islnk():
                yield path, None, member.linkname.removeprefix("./").strip("/")
                continue
            attributes = {k.removeprefix(_XATTR): v for k, v in member.pax_headers.items() if k.startswith(_XATTR)}
            yield (
                path,
                Entry(
                    _KINDS[member.type],
                    member.mode & 0o7777,
                    member.uid,
                    member.gid,
                    _content(layer, member),
                    attributes,
                    member.mtime,
                ),
                "",
            )


def _content(layer: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.issym():
        return member.linkname
    if member.ischr() or member.isblk():
        return f"{member.devmajor}:{member.devminor}"
    file = layer.extractfile(member) if member.isreg() else None
    return hashlib.file_digest(file, "sha256").hexdigest() if file else ""  # type: ignore[arg-type]  # it reads bytes


def _apply(tree: Tree, records: list[Record]) -> None:
    """Put one layer over *tree*: whiteouts act on what lies below, never on the layer's own entries."""
    for path, _entry, _target in records:
        parent, _, name = path.rpartition("/")
        if name == ".wh..wh..opq":
            _remove_below(tree, parent)
        elif name.startswith(".wh."):
            victim = f"{parent}/{name[4:]}".strip("/")
            tree.pop(victim, None)
            _remove_below(tree, victim)
    for path, entry, target in records:
        if path.rpartition("/")[2].startswith(".wh."):
            continue
        new = tree[target] if entry is None else entry
        old = tree.get(path)
        if old is not None and old.kind == "directory" and new.kind != "directory":
            _remove_below(tree, path)
        _add_parents(tree, path)
        tree[path] = new


def _add_parents(tree: Tree, path: str) -> None:
    parent = path.rpartition("/")[0]
    if parent and parent not in tree:
        _add_parents(tree, parent)
        tree[parent] = Entry("directory", 0o755, 0, 0)


def _remove_below(tree: Tree, directory: str) -> None:
    prefix = f"{directory}/" if directory else ""
    for path in [path for path in tree if path.startswith(prefix)]:
        del tree[path]
