"""The form in which a body is stored: an ordinary OCI image whose config has one more top-level key.

Registries that look at media types accept it, scanners and copying tools understand it, and the image that a build makes can carry a body
in the same way. A body above 768 kB lies in a blob of its own, which is one more layer of the manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from img_core.archives.codecs import compressor, decompressor
from img_core.images import oci
from img_core.spec.errors import ArchiveError, ImgError, IntegrityError, NotFoundError
from img_core.spec.values import Descriptor, Digest
from img_lib_cache.document import FORMAT, Body, UnusableError, blobs_of, decode_body, encode_body
from img_lib_cache.signing import SigningKey, TrustedKeys

__all__ = ["CONFIG_KEY", "FOREIGN", "Envelope", "Fetch", "FoundBodies", "config_entry", "pack", "unpack"]

#: The key of a config, and of the manifest's annotation, that mark what is ours.
CONFIG_KEY = "vnd.img.cache.v1"
_ANNOTATION = "vnd.img.cache"

#: What people read about a cache that another builder made.
FOREIGN = "made by BuildKit, whose keys differ: nothing in it can be used"
_FOREIGN_CONFIG = "application/vnd.buildkit.cacheconfig.v0"
_FOREIGN_KEY = "moby.buildkit.cache.v0"

_CONFIG_LIMIT = 768 * 1024  # bytes of a body that still lies in the config
_BODY_LIMIT = 256 * 1024 * 1024  # bytes of a body that is read; packed, a hundred bytes may stand for a megabyte
_PLATFORM_LIMIT = 32  # images of one index that are looked at
_LAYER_LIMIT = 8000  # of a manifest; registries take 4 MiB
_MORE_NAME = "img-cache.json"

#: Gives a blob's bytes; raises NotFoundError if it is gone, and IntegrityError.
Fetch = Callable[[Descriptor], bytes]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A packed body: the *manifest*, and *blobs* that have to be stored before it (with the layers that it names)."""

    manifest: bytes = field(repr=False)
    blobs: tuple[tuple[Descriptor, bytes], ...] = field(repr=False)


def pack(body: Body, *, created: str, key: SigningKey | None = None) -> Envelope:
    """Return *body* as a manifest and its blobs; *created* is an RFC 3339 time. The oldest records go if there are too many layers."""
    body = _fitting(body)
    value = _signed(body, key)
    layers = list(blobs_of(body.records).values())
    descriptors = [layer.descriptor for layer in layers]
    diff_ids = [str(layer.diff_id) for layer in layers]
    blobs: list[tuple[Descriptor, bytes]] = []
    text = oci.canonical_json(value)
    if len(text) > _CONFIG_LIMIT:
        tar = _tar(text)
        packer = compressor("gzip")
        packed = packer.compress(tar) + packer.flush()
        more = Descriptor(oci.OCI_LAYER_GZIP, oci.digest(packed), len(packed))
        blobs.append((more, packed))
        value = {"format": FORMAT, "more": len(descriptors)}
        descriptors.append(more)
        diff_ids.append(oci.digest(tar))
    config = oci.canonical_json(
        {
            "architecture": "unknown",
            "os": "unknown",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            CONFIG_KEY: value,
        }
    )
    config_descriptor = Descriptor(oci.OCI_CONFIG, oci.digest(config), len(config))
    manifest = oci.canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": oci.OCI_MANIFEST,
            "config": oci.descriptor_document(config_descriptor),
            "layers": [oci.descriptor_document(item) for item in descriptors],
            "annotations": {_ANNOTATION: str(FORMAT), "org.opencontainers.image.created": created},
        }
    )
    return Envelope(manifest, (*blobs, (config_descriptor, config)))


def config_entry(body: Body, *, key: SigningKey | None = None) -> Mapping[str, Any]:  # Any: JSON
    """Return what an image's config gets to carry *body*."""
    return {CONFIG_KEY: _signed(body, key)}


@dataclass(frozen=True, slots=True)
class FoundBodies:
    """What a manifest gave: *bodies*, and a line for each thing that is unusable. *replaceable*: it is a cache and nothing else."""

    bodies: tuple[Body, ...] = ()
    warnings: tuple[str, ...] = ()
    replaceable: bool = True


def unpack(
    manifest: bytes, fetch: Fetch, name: str, *, document: Callable[[str], bytes], trust: TrustedKeys | None = None
) -> FoundBodies:
    """Return what *manifest* leads to: that of a cache, of an image that carries one, or an index of such.

    *name* says in the warnings what was read, *document* gives the manifests that an index names, by digest. With *trust* only signed
    bodies count. Raises ImgError only when something cannot be reached.
    """
    try:
        value = _object(manifest, name)
        if "manifests" in value:
            return _unpack_index(value, fetch, name, document, trust)
        body, is_image = _unpack_manifest(value, fetch, name, trust)
    except UnusableError as err:
        return FoundBodies(warnings=(err.message,), replaceable=err.replaceable)
    dropped = (f"{name} has {body.dropped} records that are not understood",) if body.dropped else ()
    return FoundBodies((body,), dropped, not is_image)


def _unpack_index(
    value: Mapping[str, Any],  # Any: JSON
    fetch: Fetch,
    name: str,
    document: Callable[[str], bytes],
    trust: TrustedKeys | None,
) -> FoundBodies:
    items = value["manifests"]
    items = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    if any(item.get("mediaType") == _FOREIGN_CONFIG for item in items):
        raise UnusableError(f"{name}: {FOREIGN}")
    bodies: list[Body] = []
    warnings: dict[str, None] = {}
    for item in items[:_PLATFORM_LIMIT]:
        if item.get("mediaType") not in oci.MANIFEST_TYPES:
            continue
        try:
            digest = _descriptor(item, name).digest
            content = document(digest)
            if oci.digest(content) != digest:
                raise UnusableError(f"{name} is damaged: {digest} has other content")
            bodies.append(_unpack_manifest(_object(content, name), fetch, name, trust)[0])
        except (UnusableError, IntegrityError, NotFoundError) as err:
            warnings[err.message] = None
    if not bodies and not warnings:
        raise UnusableError(f"{name} carries no cache", replaceable=False)
    return FoundBodies(tuple(bodies), tuple(warnings), replaceable=False)


def _unpack_manifest(
    value: Mapping[str, Any],  # Any: JSON
    fetch: Fetch,
    name: str,
    trust: TrustedKeys | None,
) -> tuple[Body, bool]:
    """Return the body behind a manifest, and whether that is of an image that runs."""
    described = _descriptor(value.get("config"), name)
    if described.media_type == _FOREIGN_CONFIG:
        raise UnusableError(f"{name}: {FOREIGN}")
    if described.media_type not in oci.CONFIG_TYPES or described.size > oci.DOCUMENT_LIMIT:
        raise UnusableError(f"{name} carries no cache", replaceable=False)
    config = _object(_fetched(fetch, described, name), name)
    body = config.get(CONFIG_KEY)
    if body is None:
        raise UnusableError(
            f"{name}: {FOREIGN}" if _FOREIGN_KEY in config else f"{name} carries no cache", replaceable=False
        )
    if isinstance(body, dict) and "more" in body and body.get("format") == FORMAT:
        body = _more(body["more"], value.get("layers"), fetch, name)
    if trust is not None and not (isinstance(body, dict) and trust.vouch_for(body)):
        raise UnusableError(f"{name} is not signed by a trusted key: nothing in it is used")
    return decode_body(body, name), config.get("os") != "unknown"


def _more(number: object, layers: object, fetch: Fetch, name: str) -> Any:  # Any: JSON
    """Return the body that lies in a layer."""
    if not (isinstance(layers, list) and isinstance(number, int) and 0 <= number < len(layers)):
        raise UnusableError(f"{name} is damaged: its records are missing")
    described = _descriptor(layers[number], name)
    if described.size > _BODY_LIMIT:
        raise UnusableError(f"{name} has more than {_BODY_LIMIT >> 20} MiB of records")
    packed = _fetched(fetch, described, name)
    parts, size = [], 0
    try:
        unpacker = decompressor("gzip")
        for part in unpacker.feed(packed):
            parts.append(part)
            size += len(part)
            if size > _BODY_LIMIT:
                raise UnusableError(f"{name} has more than {_BODY_LIMIT >> 20} MiB of records")
        unpacker.finish()
    except ArchiveError as err:
        raise UnusableError(f"{name} is damaged: {err.message}") from None
    return _json(_untar(b"".join(parts), name), name, _BODY_LIMIT)


def _fetched(fetch: Fetch, described: Descriptor, name: str) -> bytes:
    """Return a blob, verified. What is gone or is not what was promised makes the document unusable."""
    try:
        content = fetch(described)
    except (NotFoundError, IntegrityError) as err:
        raise UnusableError(f"{name} is damaged: {err.message}") from None
    if len(content) != described.size or oci.digest(content) != described.digest:
        raise UnusableError(f"{name} is damaged: {described.digest} has other content")
    return content


def _descriptor(value: object, name: str) -> Descriptor:
    """Return the descriptor *value* of a manifest, as far as it is needed here."""
    from img_core.images.digests import is_digest

    value = value if isinstance(value, dict) else {}
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    good = isinstance(media_type, str) and isinstance(digest, str) and is_digest(digest)
    if not good or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise UnusableError(f"{name} is damaged: its manifest is not one")
    return Descriptor(str(media_type), Digest(str(digest)), size)


def _object(content: bytes, name: str) -> dict[str, Any]:  # Any: JSON
    value = _json(content, name, oci.DOCUMENT_LIMIT)
    if not isinstance(value, dict):
        raise UnusableError(f"{name} is damaged: it is no JSON object")
    return value


def _json(content: bytes, name: str, limit: int) -> Any:  # Any: JSON
    try:
        return oci.load_json(content, name=name, limit=limit)
    except ImgError as err:
        raise UnusableError(f"{name} is damaged: {err.message}") from None


def _signed(body: Body, key: SigningKey | None) -> dict[str, Any]:  # Any: JSON
    value = encode_body(body)
    return key.sign(value) if key else value


def _fitting(body: Body) -> Body:
    """Return *body* with no more blobs than a manifest may name: the records that were not used for the longest time lose theirs."""
    from dataclasses import replace

    seen: set[Digest] = set()
    kept = []
    for record in sorted(body.records, key=lambda item: -item.last):
        digests = {layer.descriptor.digest for layer in record.layers or ()}
        if len(seen | digests) <= _LAYER_LIMIT:
            seen |= digests
            kept.append(record)
    return body if len(kept) == len(body.records) else replace(body, records=tuple(kept))


def _tar(content: bytes) -> bytes:
    """Return an archive with the one file *content*, the same bytes every time."""
    header = bytearray(512)
    fields: Sequence[tuple[int, bytes]] = (
        (0, _MORE_NAME.encode()),
        (100, b"0000644\0"),
        (108, b"0000000\0"),
        (116, b"0000000\0"),
        (124, b"%011o\0" % len(content)),
        (136, b"00000000000\0"),
        (148, b" " * 8),
        (156, b"0"),
        (257, b"ustar\x0000"),
    )
    for offset, text in fields:
        header[offset : offset + len(text)] = text
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content + bytes(-len(content) % 512 + 1024)


def _untar(archive: bytes, name: str) -> bytes:
    """Return the first file of an archive that `_tar` made."""
    try:
        size = int(archive[124:135], 8)
    except ValueError:
        size = len(archive)
    if size > len(archive) - 512:
        raise UnusableError(f"{name} is damaged: its archive is cut off")
    return archive[512 : 512 + size]
