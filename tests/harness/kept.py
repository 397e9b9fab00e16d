"""Puts small images into a state directory without a command, a registry or an archive in between."""

from __future__ import annotations

from collections.abc import Mapping

from harness.img import Img
from img_core.images import oci
from img_core.store import Store
from img_core.testing.images import SmallImage

__all__ = ["keep"]


def keep(img: Img, images: Mapping[str, SmallImage]) -> None:
    """Store *images* under their full names, as so many pulls would."""
    with Store(str(img.state)) as store:
        for name, image in images.items():
            manifests = [content for content in image.blobs.values() if b'"schemaVersion"' in content[:40]]
            for digest, content in sorted(image.blobs.items(), key=lambda item: item[0] == image.top.digest):
                kind = oci.parse_manifest_or_index(content, name=digest).media_type if content in manifests else "x"
                references = [other for other in image.blobs if other.encode() in content and other != digest]
                store.put(content, kind, references=references if content in manifests else ())
            store.images.tag(name, image.top)
