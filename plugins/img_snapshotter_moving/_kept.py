"""The layer of a snapshot, kept as one file beside its tree: what remains when the tree has moved on."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from img_core.archives.codecs import codec_of_media_type, open_decompressed
from img_core.files import fs
from img_core.images.oci import OCI_LAYER
from img_core.spec.errors import StateError
from img_core.spec.snapshotter import LayerStream
from img_core.spec.values import DiffId, Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from img_core.archives.tar import TarReader
    from img_core.archives.tar.layer import OwnerOf

__all__ = ["KeptLayer", "Touched", "is_kept", "keep_arriving", "keep_changes", "touched_by"]

_FILE: Final = "layer"
_ABOUT: Final = "layer.json"
_BLOCK: Final = 1 << 20
_PREFIX: Final = b".wh."
_OPAQUE: Final = b".wh..wh..opq"


@dataclass(frozen=True, slots=True)
class KeptLayer:
    """What the file of a layer holds."""

    media_type: str
    digest: str
    size: int
    diff_id: str

    @classmethod
    def of(cls, directory: str) -> KeptLayer:
        """Return what the snapshot *directory* keeps. Raises StateError."""
        try:
            with open(f"{directory}/{_ABOUT}", "rb") as file:
                return cls(**json.loads(file.read()))
        except (OSError, ValueError, TypeError) as err:
            raise StateError(
                "the layer of a snapshot is damaged or gone",
                hint="`img prune` removes it; the next build makes it again",
            ) from err

    def stream(self, directory: str) -> LayerStream:
        """Return it as a stream."""
        return LayerStream(
            _chunks(f"{directory}/{_FILE}"), self.media_type, Digest(self.digest), self.size, DiffId(self.diff_id)
        )

    def reader(self, directory: str) -> TarReader:
        """Return a reader of its members."""
        from img_core.archives.tar import TarReader

        file = open(f"{directory}/{_FILE}", "rb")  # noqa: SIM115 - closed with the reader
        return TarReader(open_decompressed(file, codec_of_media_type(self.media_type)))


def is_kept(directory: str) -> bool:
    """Tell whether the layer of the snapshot *directory* is kept: the file about it is written last."""
    return os.path.exists(f"{directory}/{_ABOUT}")


def _chunks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(_BLOCK):
            yield chunk


def _write_about(directory: str, layer: KeptLayer) -> None:
    fs.replace_file(f"{directory}/{_ABOUT}", json.dumps(asdict(layer)).encode())


def keep_changes(
    directory: str, changes: Iterable[tuple[bytes, os.stat_result | None]], root_fd: int, owner_of: OwnerOf
) -> None:
    """Keep *changes* of the tree *root_fd* as the layer of *directory*, with the bytes that any exporter would give it."""
    from img_core.archives.tar import write_layer

    with fs.disk_errors(directory), fs.AtomicFile(directory) as file:
        info = write_layer(changes, root_fd, file.write, compression="uncompressed", owner_of=owner_of)
        file.commit(f"{directory}/{_FILE}")
    _write_about(directory, KeptLayer(OCI_LAYER, info.digest, info.size, info.diff_id))


class keep_arriving:  # noqa: N801 - used like a function: `with keep_arriving(...) as kept`
    """Keep *layer*, which is read in the block, as that of *directory*: where it lies already, under another name of its file."""

    def __init__(self, directory: str, layer: LayerStream) -> None:
        self._directory = directory
        self._layer = layer
        self._copy = None if layer.file else fs.AtomicFile(directory)
        chunks = layer.chunks if self._copy is None else self._copied(layer.chunks, self._copy)
        self.stream = LayerStream(chunks, layer.media_type, layer.digest, layer.size, layer.diff_id)

    def __enter__(self) -> keep_arriving:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._copy is not None:
            self._copy.abort()

    def _copied(self, chunks: Iterable[bytes], file: fs.AtomicFile) -> Iterator[bytes]:
        for chunk in chunks:
            file.write(chunk)
            yield chunk

    def finish(self, diff_id: DiffId) -> None:
        """Keep it: it was what it claimed to be."""
        target, layer = f"{self._directory}/{_FILE}", self._layer
        if self._copy is not None:
            self._copy.commit(target)
        else:
            _link_or_copy(layer.file, target)
        _write_about(self._directory, KeptLayer(layer.media_type, layer.digest, layer.size, diff_id))


def _link_or_copy(source: str, target: str) -> None:
    try:
        fs.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        with fs.AtomicFile(os.path.dirname(target)) as file:
            for chunk in _chunks(source):
                file.write(chunk)
            file.commit(target)


# ------------------------------------------------------------------------------------------------------------- reading


@dataclass(slots=True)
class Touched:
    """What a layer puts somewhere else, or takes away: names of *entries*, of those that are no directories, of what is *gone*."""

    entries: set[bytes]
    leaves: set[bytes]
    gone: set[bytes]

    def __contains__(self, path: bytes) -> bool:
        if path in self.entries or path in self.gone or b"" in self.gone:
            return True
        while path:
            path = path.rpartition(b"/")[0]
            if path in self.gone or path in self.leaves:
                return True
        return False


def touched_by(directory: str) -> Touched:
    """Return what the kept layer of *directory* touches."""
    from img_core.archives.tar.member import DIRECTORY

    touched = Touched(set(), set(), set())
    for member in KeptLayer.of(directory).reader(directory):
        path = fs.clean_path(member.name)
        above, name = posixpath.split(path)
        if name == _OPAQUE:
            touched.gone.add(above)
        elif name.startswith(_PREFIX):
            touched.gone.add(fs.clean_path(above + b"/" + name.removeprefix(_PREFIX)))
        else:
            touched.entries.add(path)
            if member.type != DIRECTORY:
                touched.leaves.add(path)
    return touched


def contents(directory: str, sizes: set[int]) -> tuple[dict[bytes, bytes], set[bytes]]:
    """Return digests of the files with one of *sizes* in the kept layer of *directory*, by path; and all paths of its members."""
    from img_core.archives.tar.member import HARD_LINK, REGULAR

    digests: dict[bytes, bytes] = {}
    names: set[bytes] = set()
    reader = KeptLayer.of(directory).reader(directory)
    for member in reader:
        path = fs.clean_path(member.name)
        names.add(path)
        digests.pop(path, None)  # the last one counts
        if member.type == HARD_LINK:
            if (target := digests.get(fs.clean_path(member.linkname))) is not None:
                digests[path] = target
        elif member.type == REGULAR and member.size in sizes and member.sparse is None:
            hasher = hashlib.sha256()
            for chunk in reader.chunks():
                hasher.update(chunk)
            digests[path] = hasher.hexdigest().encode()
    return digests, names
