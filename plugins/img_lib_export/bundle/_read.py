"""Reading bundles: OCI image layouts, new ``docker save`` (both in one) and old ``docker save`` (``layer.tar``)."""

from __future__ import annotations

import os
import posixpath
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from img_core.archives.codecs import open_decompressed
from img_core.images import oci
from img_core.images.digests import CANONICAL, Hasher, blob_path, digest_at
from img_core.images.reference import InvalidReference, Reference
from img_core.spec.errors import ArchiveError, IntegrityError
from img_core.spec.importer import LoadedImage
from img_core.spec.text import show
from img_core.spec.values import Descriptor, DiffId, Digest
from img_lib_export.bundle._contents import BundleFiles, DirectoryContents, TarContents
from img_lib_export.repack import uncompressed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from img_core.archives.codecs import Readable
    from img_core.spec.exporter import ImageStore

__all__ = ["read_bundle"]

_NAMELESS = "<none>"  # what Docker calls the name and the tag of an image that has none
_NAME = "io.containerd.image.name"
_REF_NAME = "org.opencontainers.image.ref.name"
_FREE_SIZE = 1 << 30
_RATIO_LIMIT = 1100  # gzip cannot do better than 1032:1


def read_bundle(source: Readable | str | os.PathLike[str], store: ImageStore) -> list[LoadedImage]:
    """Put every image of *source* into *store* and return them; naming them is up to the caller.

    *source* is a stream (a tar archive, plain or compressed by gzip, zstd, bzip2 or xz) or the path of a directory with an
    image layout. Raises ArchiveError or IntegrityError for a bad bundle; blobs stored until then are garbage that the store
    collects.
    """
    if isinstance(source, str | os.PathLike):
        root = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _Reader(DirectoryContents(root, store), store).images()
        finally:
            os.close(root)
    counted = _Counted(source)
    return _Reader(TarContents(_Bounded(open_decompressed(counted), counted), store), store).images()


class _Counted:
    """Counts what is read from a stream."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self.count = 0

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self.count += len(data)
        return data


class _Bounded:
    """Refuses a stream that grows absurdly when it is decompressed."""

    def __init__(self, source: Readable, compressed: _Counted) -> None:
        self._source = source
        self._compressed = compressed
        self._count = 0

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._count += len(data)
        _check_ratio(self._count, self._compressed.count)
        return data


def _check_ratio(size: int, compressed_size: int) -> None:
    if size > _FREE_SIZE + _RATIO_LIMIT * compressed_size:
        raise ArchiveError(f"{compressed_size} compressed bytes decompress to more than {size} bytes")


class _Reader:
    """Finds the images of one bundle. Everything is stored before what refers to it."""

    def __init__(self, contents: BundleFiles, store: ImageStore) -> None:
        self._contents = contents
        self._store = store
        self._manifests = 0
        self._checked: set[tuple[Descriptor, DiffId]] = set()

    def images(self) -> list[LoadedImage]:
        index = self._contents.document("index.json")
        if index is not None:
            return self._layout(index)
        saved = self._contents.document("manifest.json")
        if saved is not None:
            return [self._saved(entry) for entry in _saved_entries(saved)]
        if self._contents.document("repositories") is not None:
            raise ArchiveError("the bundle was made by a Docker older than 1.10", hint="save it again with a newer one")
        raise ArchiveError("the bundle holds no images: it has neither an index.json nor a manifest.json")

    # -- OCI image layout

    def _layout(self, index: bytes) -> list[LoadedImage]:
        self._check_version()
        names: dict[str, list[str]] = {}
        descriptors: dict[str, Descriptor] = {}
        saved_names = self._saved_names()
        for descriptor in oci.parse_index(index, name="index.json").manifests:
            descriptors.setdefault(descriptor.digest, descriptor)
            names.setdefault(descriptor.digest, []).extend(_layout_names(descriptor))
        loaded = []
        for digest, descriptor in descriptors.items():
            if not self._load(descriptor, depth=0):
                raise ArchiveError(f"the bundle lacks {digest}, which its index.json names")
            found = names[digest] or saved_names.get(self._config_path(descriptor), [])
            loaded.append(_loaded(found, _bare(descriptor)))
        return loaded

    def _check_version(self) -> None:
        layout = self._contents.document("oci-layout")
        if layout is None:
            return
        document = oci.load_json(layout, name="oci-layout")
        version = document.get("imageLayoutVersion") if isinstance(document, dict) else None
        if not isinstance(version, str) or not version.startswith("1."):
            raise ArchiveError(f"unsupported image layout version: {show(str(version), limit=40)}")

    def _saved_names(self) -> dict[str, list[str]]:
        """Return the names in manifest.json by the path of the config: ``docker save`` may write only these."""
        saved = self._contents.document("manifest.json")
        return {entry.config: entry.names for entry in _saved_entries(saved)} if saved else {}

    def _config_path(self, descriptor: Descriptor) -> str:
        if descriptor.media_type not in oci.MANIFEST_TYPES:
            return ""
        manifest = oci.parse_manifest(self._store.read(descriptor.digest), name=descriptor.digest)
        return blob_path(manifest.config.digest)

    def _load(self, descriptor: Descriptor, *, depth: int) -> bool:
        """Store a manifest or index with all that it references; False when it is not in the bundle."""
        content = self._document(descriptor)
        if content is None:
            return False
        parsed = oci.parse_manifest_or_index(content, name=descriptor.digest, media_type=descriptor.media_type)
        if isinstance(parsed, oci.Index):
            self._load_children(parsed, descriptor, depth)
        else:
            self._manifests += 1
            if self._manifests > oci.ENTRY_LIMIT:
                raise ArchiveError(f"the bundle has more than {oci.ENTRY_LIMIT} manifests")
            self._load_manifest(parsed, descriptor)
        self._store.put(content, descriptor.media_type, digest=descriptor.digest)
        return True

    def _load_children(self, index: oci.Index, descriptor: Descriptor, depth: int) -> None:
        """Store what *index* lists; other platforms may be missing, as ``docker save`` leaves them out."""
        if depth >= oci.INDEX_DEPTH:
            raise ArchiveError(f"{descriptor.digest} is nested too deeply in other indexes")
        present = [self._load(child, depth=depth + 1) for child in index.manifests]
        if not any(present):
            raise ArchiveError(f"the bundle has none of the images that {descriptor.digest} lists")

    def _load_manifest(self, manifest: oci.Manifest, descriptor: Descriptor) -> None:
        for layer in manifest.layers:
            self._load_blob(layer)
        if not manifest.is_image:  # an attestation or another artifact: bytes are all we know of it
            self._load_blob(manifest.config)
            return
        content = self._document(manifest.config)
        if content is None:
            raise ArchiveError(f"the bundle lacks the config {manifest.config.digest}")
        config = oci.parse_config(content, name=manifest.config.digest)
        oci.check_layers(manifest, config, name=descriptor.digest)
        self._check_diff_ids(zip(manifest.layers, config.diff_ids, strict=True))
        self._store.put(content, manifest.config.media_type, digest=manifest.config.digest)

    def _document(self, descriptor: Descriptor) -> bytes | None:
        """Return a JSON blob after checking it against *descriptor*."""
        content = self._contents.document(blob_path(descriptor.digest))
        if content is not None:
            _check(descriptor, oci.digest(content, descriptor.digest), len(content))
        return content

    def _load_blob(self, descriptor: Descriptor) -> None:
        found = self._contents.blob(blob_path(descriptor.digest))
        if found is None:
            raise ArchiveError(f"the bundle lacks the blob {descriptor.digest}")
        _check(descriptor, found.digest, found.size)

    def _check_diff_ids(self, layers: Iterable[tuple[Descriptor, DiffId]]) -> None:
        """Check that each layer unpacks to what its config says, several at a time, each once."""
        wanted = set(layers) - self._checked
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1), thread_name_prefix="img-load") as pool:
            for _ in pool.map(lambda pair: _check_diff_id(self._store, *pair), sorted(wanted, key=str)):
                pass
        self._checked |= wanted

    # -- docker save before it wrote image layouts

    def _saved(self, entry: _SavedEntry) -> LoadedImage:
        content = self._contents.document(entry.config)
        if content is None:
            raise ArchiveError(f"the bundle lacks the config `{show(entry.config)}`")
        config = oci.parse_config(content, name=show(entry.config))
        promised = _config_digest(entry.config)
        if promised and oci.digest(content, promised) != promised:
            raise IntegrityError(f"`{show(entry.config)}` in the bundle does not match its digest")
        if len(entry.layers) != len(config.diff_ids):
            raise ArchiveError(
                f"manifest.json lists {len(entry.layers)} layers, the config {len(config.diff_ids)} diff ids"
            )
        layers = [self._saved_layer(path) for path in entry.layers]
        self._check_diff_ids(zip(layers, config.diff_ids, strict=True))
        manifest = {
            "schemaVersion": 2,
            "mediaType": oci.OCI_MANIFEST,
            "config": oci.descriptor_document(self._store.put(content, oci.OCI_CONFIG, digest=promised)),
            "layers": [oci.descriptor_document(layer) for layer in layers],
        }
        return _loaded(entry.names, self._store.put(oci.canonical_json(manifest), oci.OCI_MANIFEST))

    def _saved_layer(self, path: str) -> Descriptor:
        layer = self._contents.blob(path)
        if layer is None:
            raise ArchiveError(f"the bundle lacks the layer `{show(path)}`")
        if oci.layer_compression(layer.media_type) is None:
            raise ArchiveError(f"the layer `{show(path)}` is compressed in a way that images do not allow")
        return layer


def _config_digest(path: str) -> Digest | None:
    """Return the digest that the name of a config promises: ``<hex>.json`` in archives of old, a blob in those of today."""
    name = posixpath.basename(path).removesuffix(".json")
    return digest_at(path) or digest_at(f"blobs/{CANONICAL}/{name}")


def _check(descriptor: Descriptor, digest: str, size: int) -> None:
    if size != descriptor.size:
        raise IntegrityError(f"blob {descriptor.digest} has {size} bytes, its descriptor says {descriptor.size}")
    if digest != descriptor.digest:
        raise IntegrityError(f"blob {descriptor.digest} does not match its digest: got {digest}")


def _check_diff_id(store: ImageStore, layer: Descriptor, diff_id: DiffId) -> None:
    """Raise IntegrityError unless *layer* unpacks to the tar stream that the config promises."""
    found: str = layer.digest
    if found == diff_id:  # not compressed, and verified when it was stored
        return
    hashed, size = Hasher(diff_id), 0
    for chunk in uncompressed(store, layer):
        size += len(chunk)
        _check_ratio(size, layer.size)
        hashed.update(chunk)
    found = str(hashed.digest)
    if found != diff_id:
        raise IntegrityError(f"layer {layer.digest} unpacks to {found}, its config says {diff_id}")


def _loaded(names: Iterable[str], descriptor: Descriptor) -> LoadedImage:
    """Return the image with *names*. Raises IntegrityError for a name with the digest of another image."""
    for name in names:
        pin = name.partition("@")[2]
        if pin and pin != descriptor.digest:
            raise IntegrityError(f"the bundle gives the name `{show(name)}` to {descriptor.digest}")
    return LoadedImage(tuple(dict.fromkeys(names)), descriptor)


def _bare(descriptor: Descriptor) -> Descriptor:
    return Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)


def _layout_names(descriptor: Descriptor) -> Iterator[str]:
    """Give the image name that an index entry carries; ``ref.name`` alone is often a bare tag, which names nothing."""
    full, short = descriptor.annotations.get(_NAME), descriptor.annotations.get(_REF_NAME, "")
    if full and not full.startswith(_NAMELESS):
        yield _normalised(full, "index.json")
    elif ":" in short or "/" in short:
        try:
            yield str(Reference.parse(short).with_default_tag())
        except InvalidReference:
            return


def _normalised(name: str, where: str) -> str:
    try:
        return str(Reference.parse(name).with_default_tag())
    except InvalidReference as error:
        raise ArchiveError(f"{where} has a bad image name `{show(name)}`: {error.message}") from error


@dataclass(frozen=True, slots=True)
class _SavedEntry:
    """One image in manifest.json, with clean paths and normalised names."""

    config: str
    layers: tuple[str, ...]
    names: list[str]


def _saved_entries(content: bytes) -> list[_SavedEntry]:
    document = oci.load_json(content, name="manifest.json")
    if not isinstance(document, list) or len(document) > oci.ENTRY_LIMIT:
        raise ArchiveError("manifest.json is not a list of images")
    return [_saved_entry(entry) for entry in document]


def _saved_entry(entry: Any) -> _SavedEntry:  # Any: JSON
    if not isinstance(entry, dict) or not isinstance(entry.get("Config"), str):
        raise ArchiveError("manifest.json has an entry without a config")
    layers, names = entry.get("Layers") or [], entry.get("RepoTags") or []
    if not _texts(layers) or not _texts(names) or len(layers) > oci.ENTRY_LIMIT:
        raise ArchiveError("manifest.json has a malformed entry")
    return _SavedEntry(
        posixpath.normpath(entry["Config"]),
        tuple(map(posixpath.normpath, layers)),
        [_normalised(name, "manifest.json") for name in names if not name.startswith(_NAMELESS)],
    )


def _texts(value: Any) -> bool:  # Any: JSON
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
