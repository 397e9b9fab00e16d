"""OCI and Docker image documents: manifest, index and config, read strictly.

Whatever a registry or an archive says is untrusted: sizes are checked before parsing, JSON that two programs could read
differently is refused (repeated keys, NaN, lone surrogates), and a document is a manifest or an index, never both
(GHSA-mc8v-mgrf-8f4m). The checks here are plain code; the JSON schemas beside this file explain what is wrong with a bad
document and are loaded only then. Formats: OCI image-spec 1.1 and Docker image manifest version 2, schema 2.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import TYPE_CHECKING, Any, TypeVar

from img_core.forms.strict_json import DOCUMENT_LIMIT, InvalidDocument, canonical_json, load_json
from img_core.images.compressions import COMPRESSIONS
from img_core.images.digests import ALGORITHMS, UNSUPPORTED, Hasher, is_digest
from img_core.spec.dataclass import dataclass
from img_core.spec.text import show
from img_core.spec.values import Descriptor, DiffId, Digest, Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = [
    "ACCEPT",
    "CONFIG_TYPES",
    "DOCKER_CONFIG",
    "DOCKER_INDEX",
    "DOCKER_LAYER",
    "DOCKER_LAYER_GZIP",
    "DOCKER_LAYER_ZSTD",
    "DOCKER_MANIFEST",
    "DOCUMENT_LIMIT",
    "ENTRY_LIMIT",
    "INDEX_DEPTH",
    "INDEX_TYPES",
    "LEVELS",
    "MANIFEST_TYPES",
    "OCI_CONFIG",
    "OCI_EMPTY",
    "OCI_INDEX",
    "OCI_LAYER",
    "OCI_LAYER_GZIP",
    "OCI_LAYER_ZSTD",
    "OCI_MANIFEST",
    "ImageConfig",
    "Index",
    "InvalidDocument",
    "Manifest",
    "canonical_json",
    "check_layers",
    "descriptor_document",
    "digest",
    "is_foreign_layer",
    "layer_compression",
    "load_json",
    "parse_config",
    "parse_index",
    "parse_manifest",
    "parse_manifest_or_index",
]

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD = OCI_LAYER + "+zstd"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"
DOCKER_LAYER_ZSTD = DOCKER_LAYER + ".zstd"
_DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar"
_OCI_FOREIGN_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar"
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"

MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})
#: What we ask a registry for, best first.
ACCEPT = (OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST)

#: Most layers of a manifest, manifests of an index, diff ids of a config.
ENTRY_LIMIT = 1000
#: How many indexes may lie in each other; nobody needs more than two.
INDEX_DEPTH = 3
_SIZE_LIMIT = 2**63 - 1

#: How layers may be compressed, with the lowest and the highest level of each.
LEVELS = {name: known.levels for name, known in COMPRESSIONS.items() if known.levels is not None}
_COMPRESSIONS = {
    **dict.fromkeys((OCI_LAYER, DOCKER_LAYER, _OCI_FOREIGN_LAYER, _DOCKER_FOREIGN_LAYER), ""),
    **{f"{layer}+{name}": name for layer in (OCI_LAYER, _OCI_FOREIGN_LAYER) for name in LEVELS},
    **{f"{DOCKER_LAYER}.{name}": name for name in LEVELS},
    _DOCKER_FOREIGN_LAYER + ".gzip": "gzip",
}

#: The name of an algorithm that we do not know (OCI image-spec, descriptor.md, "Digests").
_ALGORITHM = re.compile(rf"(?!(?:{'|'.join(ALGORITHMS)}):)([a-z0-9]+(?:[+._-][a-z0-9]+)*):[a-zA-Z0-9=_-]+$")

Parsed = TypeVar("Parsed")


class _Malformed(Exception):
    """Some value has the wrong type, for the reason in the message; without one the schema will say which."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform (or another artifact: see `is_image`)."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_image(self) -> bool:
        """Whether the config is that of a container image."""
        return self.config.media_type in CONFIG_TYPES


@dataclass(frozen=True, slots=True)
class Index:
    """A list of manifests, usually one per platform."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """An image config; *document* is the whole of it, with every field the specification names checked for its type."""

    platform: Platform
    diff_ids: tuple[DiffId, ...]
    document: Mapping[str, Any]  # Any: JSON


def digest(content: bytes, like: str = "") -> Digest:
    """Return the digest of *content* by sha256, or by the algorithm of the digest *like*. Raises IntegrityError for another algorithm."""
    hasher = Hasher(like)
    hasher.update(content)
    return hasher.digest


def descriptor_document(descriptor: Descriptor) -> dict[str, Any]:  # Any: JSON
    """Return *descriptor* as it stands in a manifest or an index."""
    document: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if descriptor.platform:
        document["platform"] = _platform_document(descriptor.platform)
    if descriptor.annotations:
        document["annotations"] = dict(descriptor.annotations)
    return document


def layer_compression(media_type: str) -> str | None:
    """Return ``gzip``, ``zstd`` or an empty text for a layer's media type, None if it is no layer that we know."""
    return _COMPRESSIONS.get(media_type)


def is_foreign_layer(media_type: str) -> bool:
    """Tell whether a layer of this type must not be pushed; registries do not expect it (OCI image-spec 1.0, layer.md)."""
    return media_type.startswith((_OCI_FOREIGN_LAYER, _DOCKER_FOREIGN_LAYER))


def parse_manifest_or_index(content: bytes, *, name: str, media_type: str = "") -> Manifest | Index:
    """Read what a reference names. *media_type* is the registry's Content-Type or the descriptor's; empty: not known.

    Raises `InvalidDocument`, also when *media_type*, the document's own type and its shape do not agree.
    """
    document = _load_object(content, name)
    actual_type = _settle_type(document, media_type, name)
    if actual_type in INDEX_TYPES:
        return _build(_index, document, actual_type, "index", name)
    return _build(_manifest, document, actual_type, "manifest", name)


def parse_manifest(content: bytes, *, name: str, media_type: str = "") -> Manifest:
    """Read a manifest; see `parse_manifest_or_index`."""
    parsed = parse_manifest_or_index(content, name=name, media_type=media_type)
    if not isinstance(parsed, Manifest):
        raise InvalidDocument(f"{name} is an index where a manifest was expected")
    return parsed


def parse_index(content: bytes, *, name: str, media_type: str = "") -> Index:
    """Read an index; see `parse_manifest_or_index`."""
    parsed = parse_manifest_or_index(content, name=name, media_type=media_type)
    if not isinstance(parsed, Index):
        raise InvalidDocument(f"{name} is a manifest where an index was expected")
    return parsed


def parse_config(content: bytes, *, name: str) -> ImageConfig:
    """Read an image config. A missing ``os`` means linux and a missing ``architecture`` amd64, as old images have it."""
    document = _load_object(content, name)
    return _build(_config, document, "", "config", name)


def check_layers(manifest: Manifest, config: ImageConfig, *, name: str) -> None:
    """Raise `InvalidDocument` unless there is one diff id per layer and every layer is of a type that we can unpack."""
    if len(manifest.layers) != len(config.diff_ids):
        raise InvalidDocument(
            f"{name} has {len(manifest.layers)} layers but its config {len(config.diff_ids)} diff ids"
        )
    for layer in manifest.layers:
        if layer_compression(layer.media_type) is None:
            raise InvalidDocument(f"{name} has a layer of unknown type `{show(layer.media_type)}`")


# --- JSON -------------------------------------------------------------------------------------------------------------


def _load_object(content: bytes, name: str) -> dict[str, Any]:  # Any: JSON
    document = load_json(content, name=name)
    if not isinstance(document, dict):
        raise InvalidDocument(f"{name} is not a JSON object")
    return document


# --- what is it? ------------------------------------------------------------------------------------------------------


def _settle_type(document: Mapping[str, Any], told: str, name: str) -> str:  # Any: JSON
    """Return the document's media type, after checking that *told*, ``mediaType`` and the shape agree."""
    own = document.get("mediaType", "")
    if not isinstance(own, str):
        raise InvalidDocument(f"{name} is invalid: mediaType: is not a text")
    told = told.partition(";")[0].strip().lower()
    if told.startswith(_SCHEMA_1) or document.get("schemaVersion") == 1:
        raise InvalidDocument(
            f"{name} is a schema 1 manifest, which cannot be verified and is not supported",
            hint="push the image again with a current tool",
        )
    shape = _shape(document, name)
    for media_type in (own, told if _is_specific(told) else ""):
        if media_type and media_type not in shape:
            kind = "an index" if shape is INDEX_TYPES else "a manifest"
            raise InvalidDocument(f"{name} has the form of {kind} but the type `{show(media_type)}`")
    if own and _is_specific(told) and own != told:
        raise InvalidDocument(f"{name} was sent as `{show(told)}` but says that it is `{show(own)}`")
    return own or (told if _is_specific(told) else OCI_INDEX if shape is INDEX_TYPES else OCI_MANIFEST)


def _is_specific(media_type: str) -> bool:
    """Tell whether a Content-Type says more than "some bytes", as careless file servers have it."""
    return media_type not in {"", "application/json", "application/octet-stream", "text/plain"}


def _shape(document: Mapping[str, Any], name: str) -> frozenset[str]:  # Any: JSON
    has_index_keys = "manifests" in document
    has_manifest_keys = any(key in document for key in ("config", "layers", "fsLayers", "history"))
    if has_index_keys and has_manifest_keys:
        raise InvalidDocument(f"{name} is ambiguous: it has the keys of a manifest and of an index")
    if not has_index_keys and not has_manifest_keys:
        raise InvalidDocument(f"{name} is neither a manifest nor an index")
    return INDEX_TYPES if has_index_keys else MANIFEST_TYPES


# --- plain checks: raise _Malformed, the schema explains ----------------------------------------------------------------


def _build(
    builder: Callable[[Mapping[str, Any], str], Parsed],
    document: Mapping[str, Any],
    media_type: str,
    schema: str,
    name: str,
) -> Parsed:  # Any: JSON
    try:
        return builder(document, media_type)
    except _Malformed as err:
        reason, hint = (str(err), UNSUPPORTED) if str(err) else (_explain(document, schema), None)
        raise InvalidDocument(f"{name} is invalid: {reason}", hint=hint) from None


def _require(condition: bool) -> None:
    if not condition:
        raise _Malformed


def _require_texts(value: Mapping[str, Any], keys: Iterable[str]) -> None:  # Any: JSON
    """Require that *keys*, where present, are texts or null (which Go reads as an empty text)."""
    _require(all(isinstance(value.get(key), str | None) for key in keys))


def _explain(document: Mapping[str, Any], schema: str) -> str:  # Any: JSON
    """Return what the JSON schema *schema* finds wrong with *document*: ``layers.3.size: -1 is less than …``."""
    from img_core.images.schemas import first_fault  # loads jsonschema: 100 ms, only for a bad document

    return first_fault(document, schema) or "some value has the wrong type"


def _manifest(document: Mapping[str, Any], media_type: str) -> Manifest:  # Any: JSON
    _require(document.get("schemaVersion") == 2 and type(document["schemaVersion"]) is int)
    config = _descriptor(document.get("config"))
    return Manifest(media_type, config, _descriptors(document.get("layers")), _texts(document.get("annotations")))


def _index(document: Mapping[str, Any], media_type: str) -> Index:  # Any: JSON
    _require(document.get("schemaVersion") == 2 and type(document["schemaVersion"]) is int)
    return Index(media_type, _descriptors(document.get("manifests")), _texts(document.get("annotations")))


def _descriptors(value: Any) -> tuple[Descriptor, ...]:  # Any: JSON
    """Read a list of descriptors; Go writes null for none, and some tools leave the key out."""
    value = [] if value is None else value
    _require(isinstance(value, list) and len(value) <= ENTRY_LIMIT)
    return tuple(map(_descriptor, value))


def _descriptor(value: Any) -> Descriptor:  # Any: JSON
    """Read a descriptor. Its ``urls`` are ignored on purpose: they would make us fetch from hosts nobody named."""
    _require(isinstance(value, dict))
    media_type, size = value.get("mediaType"), value.get("size")
    _require(isinstance(media_type, str) and media_type != "")
    _require(type(size) is int and 0 <= size <= _SIZE_LIMIT)
    platform = _platform(value["platform"]) if value.get("platform") is not None else None
    return Descriptor(media_type, _digest(value.get("digest")), size, platform, _texts(value.get("annotations")))


def _digest(value: Any) -> Digest:  # Any: JSON
    _require(isinstance(value, str))
    if not is_digest(value):
        algorithm = _ALGORITHM.match(value)
        raise _Malformed(f"unsupported digest algorithm `{algorithm[1]}`" if algorithm else "")
    return Digest(value)


def _texts(value: Any) -> Mapping[str, str]:  # Any: JSON
    _require(value is None or (isinstance(value, dict) and all(isinstance(item, str) for item in value.values())))
    return value or {}


def _platform(value: Any) -> Platform:  # Any: JSON
    _require(isinstance(value, dict))
    keys = ("os", "architecture", "variant", "os.version")
    _require_texts(value, keys)
    return Platform(*(value.get(key) or "" for key in keys))


def _platform_document(platform: Platform) -> dict[str, str]:
    document = {"architecture": platform.architecture, "os": platform.os}
    if platform.os_version:
        document["os.version"] = platform.os_version
    if platform.variant:
        document["variant"] = platform.variant
    return document


_CONFIG_TEXTS = ("User", "WorkingDir", "StopSignal")
_CONFIG_TEXT_LISTS = ("Env", "Entrypoint", "Cmd", "Shell", "OnBuild")
_CONFIG_OBJECTS = ("ExposedPorts", "Volumes", "Healthcheck")


def _config(document: Mapping[str, Any], _media_type: str) -> ImageConfig:  # Any: JSON
    platform = _platform(document)
    rootfs: Any = document.get("rootfs")  # Any: JSON
    _require(isinstance(rootfs, dict) and rootfs.get("type", "layers") == "layers")
    diff_ids = [] if rootfs.get("diff_ids") is None else rootfs["diff_ids"]  # Go writes null for no layers
    _require(isinstance(diff_ids, list) and len(diff_ids) <= ENTRY_LIMIT)
    _check_runtime_config(document.get("config"))
    _check_history(document.get("history"))
    platform = Platform(platform.os or "linux", platform.architecture or "amd64", platform.variant, platform.os_version)
    return ImageConfig(platform, tuple(DiffId(_digest(item)) for item in diff_ids), document)


def _check_runtime_config(value: Any) -> None:  # Any: JSON
    if value is None:
        return
    _require(isinstance(value, dict))
    _require_texts(value, _CONFIG_TEXTS)
    _require(all(value.get(key) is None or isinstance(value[key], dict) for key in _CONFIG_OBJECTS))
    for key in _CONFIG_TEXT_LISTS:
        items = value.get(key)
        _require(items is None or (isinstance(items, list) and all(isinstance(item, str) for item in items)))
    _texts(value.get("Labels"))


def _check_history(value: Any) -> None:  # Any: JSON
    _require(value is None or (isinstance(value, list) and all(isinstance(entry, dict) for entry in value)))
    for entry in value or ():
        _require_texts(entry, ("created", "created_by", "author", "comment"))
        _require(isinstance(entry.get("empty_layer"), bool | None))
