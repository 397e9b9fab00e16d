"""Ready-made build results for tests of exporters, ours and yours: real blobs, a real store, a real tree, no namespaces.

>>> result = make_result(tmp_path)                                       # doctest: +SKIP
>>> MyExporter(host(tmp_path), {"dest": "out.x"}).export(result, Recorder())  # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from img_core.archives.codecs import compressor
from img_core.archives.flatten import write_tree
from img_core.files import fs
from img_core.images import oci
from img_core.images.digests import ALGORITHMS, Hasher, blob_path
from img_core.images.layer_types import layer_type
from img_core.spec.errors import Canceled, IntegrityError, NotFoundError
from img_core.spec.exporter import Attestation, BuiltLayer, Tree
from img_core.spec.host import Host
from img_core.spec.values import Descriptor, DiffId, Digest, Platform

__all__ = [
    "CREATED",
    "DirectoryStore",
    "ReadyImage",
    "ReadyResult",
    "ReadyTree",
    "Recorder",
    "host",
    "make_result",
    "populate",
]

CREATED = "2024-05-06T07:08:09Z"
_TIME = 1_714_979_289  # the same instant in seconds
_AMD64 = Platform("linux", "amd64")


class DirectoryStore:
    """An `ImageStore` in a plain directory: ``blobs/<algorithm>/<hex>`` and ``tags.json``. Not for several processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for algorithm in ALGORITHMS:
            (directory / "blobs" / algorithm).mkdir(parents=True, exist_ok=True)

    def path(self, digest: Digest) -> Path:
        """Return where a blob lies, for tests that damage it."""
        return self.directory / blob_path(digest)

    def blobs(self) -> dict[str, bytes]:
        """Return all blobs by hexadecimal digest, to compare before and after."""
        return {path.name: path.read_bytes() for path in self.directory.glob("blobs/*/[!.]*")}

    def tags(self) -> dict[str, str]:
        """Return the digest behind each name."""
        path = self.directory / "tags.json"
        return json.loads(path.read_bytes()) if path.exists() else {}

    def put(self, data: bytes, media_type: str, *, digest: Digest | None = None) -> Descriptor:
        """See `ImageStore.put`."""
        return self.ingest([data], media_type, digest=digest)

    def ingest(
        self, chunks: Iterable[bytes], media_type: str, *, digest: Digest | None = None, size: int | None = None
    ) -> Descriptor:
        """See `ImageStore.ingest`."""
        hashed = Hasher(digest or "")
        with fs.disk_errors(self.directory), fs.AtomicFile(self.directory) as file:
            for chunk in chunks:
                hashed.update(chunk)
                file.write(chunk)
            found = Descriptor(media_type, hashed.digest, file.size)
            if digest not in (None, found.digest) or size not in (None, found.size):
                raise IntegrityError(f"got {found.digest} of {found.size} bytes instead of {digest} of {size} bytes")
            if not self.path(found.digest).exists():
                file.commit(self.path(found.digest))
        return found

    def remember_origins(self, digests: Iterable[Digest], repository: str) -> None:
        """See `ImageStore.remember_origins`; tests ask nobody for them."""

    def open(self, digest: Digest) -> BinaryIO:
        """See `ImageStore.open`."""
        try:
            return self.path(digest).open("rb")
        except FileNotFoundError:
            raise NotFoundError(f"blob {digest}: not found") from None

    def read(self, digest: Digest) -> bytes:
        """See `ImageStore.read`."""
        with self.open(digest) as file:
            data = file.read()
        if oci.digest(data, digest) != digest:
            raise IntegrityError(f"blob {digest} is damaged")
        return data

    def chunks(self, descriptor: Descriptor) -> Iterator[bytes]:
        """See `ImageStore.chunks`."""
        hashed = Hasher(descriptor.digest)
        with self.open(descriptor.digest) as file:
            while chunk := file.read(64 * 1024):
                hashed.update(chunk)
                yield chunk
        if hashed.digest != descriptor.digest:
            raise IntegrityError(f"blob {descriptor.digest} is damaged")

    def origins(self, digest: Digest) -> Sequence[str]:
        """See `ImageStore.origins`."""
        return ()

    def tag(self, name: str, descriptor: Descriptor) -> None:
        """See `ImageStore.tag`."""
        self._require(descriptor)
        fs.replace_file(self.directory / "tags.json", oci.canonical_json({**self.tags(), name: descriptor.digest}))

    def keep(self, descriptor: Descriptor) -> None:
        """See `ImageStore.keep`."""
        self.tag(descriptor.digest, descriptor)

    def _require(self, descriptor: Descriptor) -> None:
        """Raise NotFoundError unless everything that *descriptor* references is here."""
        parsed = oci.parse_manifest_or_index(
            self.read(descriptor.digest), name=descriptor.digest, media_type=descriptor.media_type
        )
        if isinstance(parsed, oci.Index):
            for child in parsed.manifests:
                self._require(child)
            return
        for blob in (parsed.config, *parsed.layers):
            self.open(blob.digest).close()


@dataclass(frozen=True, slots=True)
class ReadyTree:
    """A `Tree` over a directory of ours; *owners* says who shall own what, as on a host that maps a single id."""

    fd: int
    owners: Mapping[bytes, tuple[int, int]]

    def owner(self, path: bytes) -> tuple[int, int] | None:
        """See `Tree.owner`; whatever is not listed belongs to root."""
        return self.owners.get(path, (0, 0))


@dataclass(frozen=True, slots=True)
class ReadyImage:
    """A `BuiltImage` that was finished before the test began."""

    platform: Platform
    directory: Path
    owners: Mapping[bytes, tuple[int, int]]
    stored: tuple[BuiltLayer, ...]
    document: Mapping[str, Any]  # Any: JSON
    attestations: Sequence[Attestation] = ()

    def config(self) -> Mapping[str, Any]:  # Any: JSON
        """See `BuiltImage.config`."""
        return self.document

    def layers(self) -> Sequence[BuiltLayer]:
        """See `BuiltImage.layers`."""
        return self.stored

    @contextlib.contextmanager
    def tree(self) -> Iterator[Tree]:
        """See `BuiltImage.tree`; the descriptor is as good for nothing but opening from it as that of a mount is."""
        fd = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield ReadyTree(fd, self.owners)
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class ReadyResult:
    """A `Result`."""

    images: Sequence[ReadyImage]
    names: Sequence[str]
    store: DirectoryStore
    source_date_epoch: int | None = None
    as_index: bool = False

    @property
    def multi_platform(self) -> bool:
        """See `Result.multi_platform`."""
        return self.as_index or len(self.images) > 1


@dataclass(slots=True)
class Recorder:
    """An `ExportProgress` that keeps what it is told, and asks to stop at call number *cancel_at* (from 1)."""

    cancel_at: int | None = None
    lines: list[str] = field(default_factory=list)

    def status(
        self, text: str, *, current: int = 0, total: int = 0, finished: bool | None = None, outcome: str = ""
    ) -> None:
        """See `ExportProgress.status`."""
        self.lines.append(text)
        if self.cancel_at is not None and len(self.lines) >= self.cancel_at:
            raise Canceled

    def check(self) -> None:
        """See `ExportProgress.check`."""


def host(directory: Path) -> Host:
    """Return a host whose state and run directories are in *directory*."""
    for name in ("state", "run"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    return Host(
        mapping="none",
        state_directory=str(directory / "state"),
        run_directory=str(directory / "run"),
        real_uid=os.getuid(),
        real_gid=os.getgid(),
    )


#: Names that tools like to get wrong.
ODD_NAMES = (
    b"new\nline",
    b"not-utf-8-\xff\xfe",
    "größe-日本".encode(),
    b"-rf",
    b"space and 'quotes\"",
    b"back\\slash",
    b"\x1b[31mred",
    b"a" * 255,
    b" leading",
    b".wh-not-a-whiteout",
)


def populate(root: Path) -> dict[bytes, tuple[int, int]]:
    """Fill *root* with one of each kind of thing an image may hold, as an ordinary user; return the wanted owners."""
    top = os.fsencode(root)
    for directory in (b"etc", b"bin", b"tmp", b"odd", b"empty", b"home/user", b"/".join([b"deep" * 10] * 8)):
        os.makedirs(os.path.join(top, directory))
    _write(top, b"etc/motd", b"hello\n", 0o644)
    _write(top, b"etc/empty", b"", 0o600)
    _write(top, b"bin/tool", b"#!/bin/sh\n" * 1000, 0o755)
    _write(top, b"bin/su", b"setuid", 0o4755)
    _write(top, b"home/user/file", b"x" * 300_000, 0o640)
    _write(top, b"/".join([b"deep" * 10] * 8) + b"/leaf", b"long path", 0o644)
    for name in ODD_NAMES:
        _write(top, b"odd/" + name, name, 0o644)
    os.link(os.path.join(top, b"bin/tool"), os.path.join(top, b"bin/tool-again"))
    os.symlink(b"/etc/motd", os.path.join(top, b"etc/absolute"))
    os.symlink(b"../../../../../../etc/passwd", os.path.join(top, b"etc/climbing"))
    os.symlink(b"no/such/\xff", os.path.join(top, b"etc/dangling"))
    os.mkfifo(os.path.join(top, b"tmp/fifo"), 0o622)
    _write_sparse(top, b"bin/sparse", 1 << 20)
    os.chmod(os.path.join(top, b"tmp"), 0o1777)  # noqa: S103 - as every image has it
    with contextlib.suppress(OSError):  # not every file system has user attributes
        os.setxattr(os.path.join(top, b"etc/motd"), b"user.note", b"a\0b")
    _set_times(root)
    return {
        b"home/user": (1000, 1000),
        b"home/user/file": (1000, 50),
        b"etc/dangling": (12, 34),
        b"tmp/fifo": (3_000_000, 3_000_001),  # above what seven octal digits hold
    }


def _write(top: bytes, path: bytes, data: bytes, mode: int) -> None:
    full = os.path.join(top, path)
    with open(full, "wb") as file:
        file.write(data)
    os.chmod(full, mode)


def _write_sparse(top: bytes, path: bytes, size: int) -> None:
    """Write a file with something at its beginning and at its end, and with a hole between them."""
    with open(os.path.join(top, path), "wb") as file:
        file.write(b"begin")
        file.seek(size - 3)
        file.write(b"end")
        os.fchmod(file.fileno(), 0o644)


def _set_times(root: Path) -> None:
    """Give everything a fixed time with nanoseconds, so that two results are equal."""
    nanoseconds = _TIME * 10**9 + 123_456_789
    for directory, _, files in os.walk(os.fsencode(root), topdown=False):
        for name in [*files, b"."]:
            os.utime(os.path.join(directory, name), ns=(nanoseconds, nanoseconds), follow_symlinks=False)


def make_result(
    directory: Path,
    *,
    platforms: Sequence[Platform] = (_AMD64,),
    names: Sequence[str] = ("docker.io/library/sample:latest",),
    codec: str = "gzip",
    source_date_epoch: int | None = None,
    as_index: bool = False,
    large: int = 0,
) -> ReadyResult:
    """Build a result below *directory*: one tree, a base layer and a layer of the build per platform.

    Equal arguments give equal bytes. The tree is what the two layers unpack to. With *large* there is a sparse file of so many bytes.
    """
    store = DirectoryStore(directory / "store")
    images = tuple(_image(directory, store, platform, codec, large) for platform in platforms)
    return ReadyResult(images, tuple(names), store, source_date_epoch, as_index)


def _image(directory: Path, store: DirectoryStore, platform: Platform, codec: str, large: int) -> ReadyImage:
    root = directory / f"tree-{platform.architecture}{platform.variant}"
    root.mkdir()
    owners = populate(root)
    base = _layer(store, root, owners, codec, base=True)
    if large:
        _write_sparse(os.fsencode(root), b"large", large)
    _write(os.fsencode(root), b"etc/built-for", str(platform).encode(), 0o644)
    _set_times(root)
    built = _layer(store, root, owners, codec, base=False)
    layers = (base, built)
    config = {
        "architecture": platform.architecture,
        "os": platform.os,
        **({"variant": platform.variant} if platform.variant else {}),
        "created": CREATED,
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/tool"], "Labels": {"sample": "yes"}},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": CREATED, "created_by": f"layer {number}"} for number in (1, 2)],
    }
    return ReadyImage(platform, root, owners, layers, config)


def _layer(
    store: DirectoryStore, root: Path, owners: Mapping[bytes, tuple[int, int]], codec: str, *, base: bool
) -> BuiltLayer:
    """Store the whole of *root* as one layer."""
    hashed, parts, packer = Hasher(), [], compressor(codec)

    class Sink:
        def write(self, data: bytes, /) -> None:
            hashed.update(data)
            parts.append(packer.compress(data))

    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        write_tree(ReadyTree(fd, owners), Sink())
    finally:
        os.close(fd)
    parts.append(packer.flush())
    descriptor = store.ingest(parts, layer_type(codec, docker=False))
    return BuiltLayer(descriptor, DiffId(hashed.digest), CREATED, base=base)
