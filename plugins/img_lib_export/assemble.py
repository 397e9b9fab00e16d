"""Image documents of a finished build: configs, manifests and, for several platforms, an index.

Same result, same documents: JSON is canonical, nothing depends on the clock or the machine.
Formats: OCI image-spec 1.1 (manifest.md, image-index.md, config.md) and Docker image manifest version 2, schema 2.
"""

from __future__ import annotations

import re
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, Final

from img_core.images import oci
from img_core.images.layer_types import layer_codec, layer_type
from img_core.images.names import all_names
from img_core.images.platforms import parse
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import IntegrityError, UsageError
from img_core.spec.exporter import LayerForm
from img_core.spec.values import Descriptor, Digest
from img_lib_export.ticker import Ticker

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    from img_core.spec.exporter import BuiltImage, BuiltLayer, ExportProgress, ImageStore, Result
    from img_core.spec.values import Platform
    from img_lib_export.repack import Transform

__all__ = [
    "PACKING_PATTERNS",
    "PACKING_PROPERTIES",
    "Assembled",
    "AssembledImage",
    "Packing",
    "assemble",
    "image_metadata",
]

#: JSON Schema of the options that all image formats share; `Packing.from_options` reads them. Any: JSON
PACKING_PROPERTIES: Mapping[str, Any] = {
    "compression": {
        "enum": ["uncompressed", *oci.LEVELS],
        "description": "form of the layers that this build made; those of the base image keep theirs",
    },
    "force-compression": {"type": "boolean", "description": "bring the layers of the base image into that form too"},
    "compression-level": {
        "type": "integer",
        "minimum": 0,
        "maximum": max(highest for _, highest in oci.LEVELS.values()),
        "description": ", ".join(f"{low} to {high} for {name}" for name, (low, high) in oci.LEVELS.items()),
    },
    "oci-mediatypes": {"type": "boolean", "description": "OCI media types (default) or Docker's"},
    "rewrite-timestamp": {
        "type": "boolean",
        "description": "set files newer than SOURCE_DATE_EPOCH to it, except those of the base image",
    },
    "source-date-epoch": {"type": "integer", "minimum": 0, "description": "seconds since 1970 for rewrite-timestamp"},
}
_ANNOTATED = ("manifest", "index", "manifest-descriptor", "index-descriptor")
_ANNOTATION: Final = rf"^annotation(?:-({'|'.join(_ANNOTATED)}))?(?:\[([A-Za-z0-9_./-]+)\])?\.(.+)$"
#: ``annotation.KEY=VALUE`` and ``annotation-PLACE.KEY=VALUE``, of one platform with ``[PLATFORM]`` before the dot. Any: JSON
PACKING_PATTERNS: Mapping[str, Any] = {_ANNOTATION: {"type": "string"}}


@dataclass(frozen=True, slots=True)
class Packing:
    """How documents and layers shall look; the fields are the options of `PACKING_PROPERTIES`.

    *codec* None keeps every layer as it is stored. *annotations* are by place: ``manifest``, ``index``,
    ``manifest-descriptor``, ``index-descriptor``, or ``manifest[linux/arm64]`` for one platform. *names* are what the option ``name`` adds
    to those of the result.
    """

    codec: str | None = None
    level: int | None = None
    force: bool = False
    docker_types: bool = False
    rewrite_times: bool = False
    epoch: int | None = None
    annotations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @property
    def layer_form(self) -> LayerForm:
        """How the layers of the build are wanted (`Exporter.layer_form`). Those whose times have to be clamped are packed again anyway."""
        return LayerForm(self.codec or "gzip", None if self.rewrite_times else self.level)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Packing:
        """Read checked *options*. Raises UsageError for combinations that make no sense."""
        force, level = bool(options.get("force-compression")), options.get("compression-level")
        codec = options.get("compression") or ("gzip" if force or level is not None else None)
        if codec == "gzip" and level is not None and level > 9:
            raise UsageError(f"compression level {level} is not between 0 and 9 for gzip")
        return cls(
            codec=codec,
            level=level,
            force=force,
            docker_types=not options.get("oci-mediatypes", True),
            rewrite_times=bool(options.get("rewrite-timestamp")),
            epoch=options.get("source-date-epoch"),
            annotations=_annotations(options),
            names=tuple(all_names((), options)),
        )


@dataclass(frozen=True, slots=True)
class AssembledImage:
    """One image whose documents and layers are all in the store."""

    platform: Platform
    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]
    created: str | None  #: the config's, an RFC 3339 time


@dataclass(frozen=True, slots=True)
class Assembled:
    """What a name shall mean: *top* is the only image's manifest, or the index of all of them."""

    top: Descriptor
    images: tuple[AssembledImage, ...]


def assemble(result: Result, packing: Packing, progress: ExportProgress) -> Assembled:
    """Put the documents of *result* (and layers in a new form) into its store. Waits until all layers are written.

    Raises UsageError for what the form of *packing* cannot hold.
    """
    attested = any(image.attestations for image in result.images)
    if attested and packing.docker_types:
        raise UsageError(
            "attestations cannot be attached with `oci-mediatypes=false`",
            hint="use OCI media types, or switch off the listener that attests: `img plugins ls --kind listener`",
        )
    as_index = result.multi_platform or attested
    if not as_index and any(packing.annotations.get(place) for place in ("index", "index-descriptor")):
        raise UsageError("index annotations not supported for single platform export")
    progress.status("exporting layers")
    packer = _Packer(result, packing, progress)
    images = tuple(map(packer.image, result.images))
    if not as_index:
        return Assembled(packer.described(images[0]), images)
    return Assembled(packer.index(images), images)


def image_metadata(assembled: Assembled, names: Sequence[str]) -> dict[str, Any]:  # Any: JSON
    """Return what exporters of images tell about them (``--metadata-file``)."""
    metadata: dict[str, Any] = {
        "containerimage.digest": assembled.top.digest,
        "containerimage.descriptor": oci.descriptor_document(assembled.top),
    }
    if [assembled.top.digest] == [image.manifest.digest for image in assembled.images]:
        metadata["containerimage.config.digest"] = assembled.images[0].config.digest
    if names:
        metadata["image.name"] = ",".join(names)
    return metadata


class _Packer:
    """Writes the documents of one result; remembers layers, which several images may share."""

    def __init__(self, result: Result, packing: Packing, progress: ExportProgress) -> None:
        self._store: ImageStore = result.store
        self._built = result.images
        self._names = list(dict.fromkeys([*result.names, *packing.names]))
        self._packing = packing
        self._progress = progress
        self._epoch = packing.epoch if packing.epoch is not None else result.source_date_epoch
        self._packed: dict[tuple[Digest, bool], BuiltLayer] = {}

    def image(self, image: BuiltImage) -> AssembledImage:
        """Write config and manifest of *image*. Raises UsageError for more layers than a manifest may have."""
        stored = image.layers()
        if len(stored) > oci.ENTRY_LIMIT:
            raise UsageError(
                f"the image has {len(stored)} layers; more than {oci.ENTRY_LIMIT} are read by nobody",
                hint="join steps, for example by `RUN a && b` or a here-document, or copy the result into a stage of its own",
            )
        packed = [self._layer(layer) for layer in stored]
        document = _config_document(image.config(), stored, packed)
        config = self._put(document, oci.DOCKER_CONFIG if self._packing.docker_types else oci.OCI_CONFIG)
        layers = tuple(map(self._layer_descriptor, packed))
        manifest = self._put(
            {
                "schemaVersion": 2,
                "mediaType": oci.DOCKER_MANIFEST if self._packing.docker_types else oci.OCI_MANIFEST,
                "config": oci.descriptor_document(config),
                "layers": [oci.descriptor_document(layer) for layer in layers],
                **_field(self._annotations("manifest", image.platform)),
            }
        )
        self._progress.status(f"exporting manifest {manifest.digest}")
        self._progress.status(f"exporting config {config.digest}")
        manifest = replace(manifest, platform=image.platform)
        return AssembledImage(image.platform, manifest, config, layers, document.get("created"))

    def index(self, images: Sequence[AssembledImage]) -> Descriptor:
        """Write the index of *images*, and what is stated about them."""
        manifests = list(map(self.described, images))
        manifests += self._attestations(images)
        descriptor = self._put(
            {
                "schemaVersion": 2,
                "mediaType": oci.DOCKER_INDEX if self._packing.docker_types else oci.OCI_INDEX,
                "manifests": [oci.descriptor_document(manifest) for manifest in manifests],
                **_field(self._annotations("index")),
            }
        )
        self._progress.status(f"exporting manifest list {descriptor.digest}")
        return replace(descriptor, annotations=self._annotations("index-descriptor"))

    def described(self, image: AssembledImage) -> Descriptor:
        """Return the descriptor of the manifest of *image*, with the annotations that it gets."""
        return replace(image.manifest, annotations=self._annotations("manifest-descriptor", image.platform))

    def _attestations(self, images: Sequence[AssembledImage]) -> Iterator[Descriptor]:
        for built, image in zip(self._built, images, strict=True):
            if built.attestations:
                from img_lib_export.attestations import attach  # few builds have any

                descriptor = attach(self._store, built.attestations, image.manifest, self._names)
                self._progress.status(f"exporting attestation manifest {descriptor.digest}")
                yield descriptor

    def _annotations(self, place: str, platform: Platform | None = None) -> dict[str, str]:
        """Return those of *place*, with those of *platform* over those of all."""
        places = (place, f"{place}[{platform}]")
        return {key: value for each in places for key, value in self._packing.annotations.get(each, {}).items()}

    def _put(self, document: Mapping[str, Any], media_type: str = "") -> Descriptor:  # Any: JSON
        return self._store.put(oci.canonical_json(document), media_type or document["mediaType"])

    def _layer_descriptor(self, layer: BuiltLayer) -> Descriptor:
        """Give the layer's type its OCI or Docker spelling; the bytes are the same."""
        media_type = layer_type(layer_codec(layer.descriptor), docker=self._packing.docker_types)
        return replace(layer.descriptor, media_type=media_type, platform=None)

    def _layer(self, layer: BuiltLayer) -> BuiltLayer:
        """Return *layer* in the form that was asked for."""
        key = (layer.descriptor.digest, layer.base)
        if key not in self._packed:
            self._packed[key] = self._repacked(layer)
        return self._packed[key]

    def _repacked(self, layer: BuiltLayer) -> BuiltLayer:
        packing, current = self._packing, layer_codec(layer.descriptor)
        wanted = packing.codec if packing.codec and (packing.force or not layer.base) else current
        clamp = self._epoch if packing.rewrite_times and not layer.base else None
        levelled = packing.level is not None and not layer.base
        ready = layer.form == LayerForm(wanted, packing.level) if levelled else wanted == current
        if clamp is None and ready:
            return layer
        from img_lib_export.repack import repack  # loads codecs and tar; most builds keep their layers

        tick = Ticker(self._progress, f"compressing {layer.descriptor.digest}")
        repacked = repack(
            self._store,
            layer,
            wanted,
            level=packing.level if wanted == packing.codec else None,
            transform=None if clamp is None else _clamped(clamp),
            tick=tick,
        )
        tick.finish()
        return repacked


def _config_document(
    config: Mapping[str, Any], stored: Sequence[BuiltLayer], packed: Sequence[BuiltLayer]
) -> Mapping[str, Any]:  # Any: JSON
    """Return *config* with the diff ids of *packed*; BuildKit writes null for an image without layers, we write ``[]``."""
    rootfs = dict(config.get("rootfs") or {"type": "layers"})
    told, expected = rootfs.get("diff_ids"), [layer.diff_id for layer in stored]
    if told is not None and list(told) != expected:
        raise IntegrityError("the image config does not list the diff ids of the image's layers")
    rootfs["diff_ids"] = [layer.diff_id for layer in packed]
    return {**config, "rootfs": rootfs, "history": list(config.get("history") or ())}


def _clamped(epoch: int) -> Transform:
    """Return a function that rewrites a tar stream so that nothing in it is newer than *epoch*."""

    def transform(stream: Iterable[bytes]) -> Generator[bytes, None, None]:
        from img_lib_export.clamp import clamp_times  # only for builds that ask for it

        return clamp_times(stream, epoch)

    return transform


def _field(annotations: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
    return {"annotations": annotations} if annotations else {}


def _annotations(options: Mapping[str, Any]) -> dict[str, dict[str, str]]:  # Any: JSON
    """Sort the ``annotation…`` options by place; without one they belong to the manifest. An index is that of all platforms.

    Raises UsageError for what is no platform.
    """
    found: dict[str, dict[str, str]] = {}
    for option, value in options.items():
        if parts := re.match(_ANNOTATION, option):
            place, platform, key = parts.groups("")
            of_one = f"[{parse(platform, prefix=f'`{option}`: ')}]" if platform else ""
            found.setdefault(place if place.startswith("index") else (place or "manifest") + of_one, {})[key] = value
    return found
