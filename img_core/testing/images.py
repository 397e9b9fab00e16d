"""Small images made of bytes, for tests that need something to pull or to unpack."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img_core.images import oci
from img_core.spec.values import Descriptor, Digest, Platform

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["SmallImage", "make_image", "make_index", "tar_layer", "write_layout"]


@dataclass(frozen=True, slots=True)
class SmallImage:
    """An image or an index of images, with all its blobs. *top* names what a tag would point to."""

    top: Descriptor
    blobs: Mapping[Digest, bytes] = field(repr=False)  #: everything by digest, manifests included
    layers: tuple[Descriptor, ...] = ()
    config: Descriptor | None = None

    @property
    def content(self) -> bytes:
        """The bytes of the manifest or index itself."""
        return self.blobs[self.top.digest]


def tar_layer(files: Mapping[str, bytes]) -> bytes:
    """Return an uncompressed layer with regular *files*, the same bytes every time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def make_image(
    layers: Iterable[Mapping[str, bytes]] = ({"hello": b"world\n"},),
    *,
    platform: Platform | None = None,
    docker: bool = False,
    config: Mapping[str, Any] | None = None,  # Any: JSON
    compress: bool = True,
    history: Sequence[Mapping[str, Any]] | None = (),
    algorithms: Sequence[str] = ("sha256",) * 3,
) -> SmallImage:
    """Return an image with *layers* (file name to content), of Docker's media types if *docker* is true.

    *algorithms* are those of the digests of the manifest, of config and layers, and of the diff ids. *history* stands for an entry for
    each layer if it is empty; None leaves it out.
    """
    platform = platform or Platform("linux", "amd64")
    layer_type = oci.DOCKER_LAYER_GZIP if docker else oci.OCI_LAYER_GZIP if compress else oci.OCI_LAYER
    of_manifest, of_blobs, of_content = algorithms
    blobs: dict[Digest, bytes] = {}
    descriptors, diff_ids = [], []
    for files in layers:
        tar = tar_layer(files)
        diff_ids.append(_digest(tar, of_content))
        packed = gzip.compress(tar, 1, mtime=0) if compress or docker else tar
        descriptors.append(_add(blobs, packed, layer_type, of_blobs))
    document = {
        "architecture": platform.architecture,
        "os": platform.os,
        **({"variant": platform.variant} if platform.variant else {}),
        "config": dict(config or {"Env": ["PATH=/bin"], "Cmd": ["/hello"]}),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        **({} if history is None else {"history": list(history) or [{"created_by": "test"} for _ in diff_ids]}),
    }
    config_descriptor = _add(blobs, _json(document), oci.DOCKER_CONFIG if docker else oci.OCI_CONFIG, of_blobs)
    manifest_type = oci.DOCKER_MANIFEST if docker else oci.OCI_MANIFEST
    manifest = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": oci.descriptor_document(config_descriptor),
        "layers": [oci.descriptor_document(descriptor) for descriptor in descriptors],
    }
    top = _add(blobs, _json(manifest), manifest_type, of_manifest, platform)
    return SmallImage(top, blobs, tuple(descriptors), config_descriptor)


def make_index(images: Iterable[SmallImage], *, docker: bool = False) -> SmallImage:
    """Return an index of *images*, each under the platform it was made for."""
    images = list(images)
    media_type = oci.DOCKER_INDEX if docker else oci.OCI_INDEX
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [oci.descriptor_document(image.top) for image in images],
    }
    blobs = {digest: content for image in images for digest, content in image.blobs.items()}
    return SmallImage(_add(blobs, _json(document), media_type), blobs)


def write_layout(directory: Path, images: Mapping[str, SmallImage]) -> None:
    """Write *images* by tag into *directory* as an OCI image layout, e.g. for ``skopeo copy oci:directory:tag``."""
    entries = []
    for tag, image in images.items():
        for digest, content in image.blobs.items():
            path = directory / "blobs" / digest.replace(":", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        entry = oci.descriptor_document(image.top)
        entries.append({**entry, "annotations": {"org.opencontainers.image.ref.name": tag}})
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (directory / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": entries}))


def _add(
    blobs: dict[Digest, bytes],
    content: bytes,
    media_type: str,
    algorithm: str = "sha256",
    platform: Platform | None = None,
) -> Descriptor:
    digest = _digest(content, algorithm)
    blobs[digest] = content
    return Descriptor(media_type, digest, len(content), platform)


def _digest(content: bytes, algorithm: str) -> Digest:
    # Not the product's own function: tests should not agree with it by construction.
    return Digest(f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")


def _json(value: Any) -> bytes:  # Any: JSON
    return json.dumps(value).encode()
