"""Attestations of an image as BuildKit attaches them: one more manifest in the index, whose layers are in-toto statements.

The entry in the index names the image in annotations (``vnd.docker.reference.digest``, ``vnd.docker.reference.type``) and has the platform
``unknown/unknown``, so that who looks for an image passes it by. Formats: in-toto attestation framework, statement v1; OCI image-spec 1.1,
manifest.md, "Guidelines for Artifact Usage"; package-url specification, type ``docker``.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from img_core.images import oci
from img_core.images.reference import Reference
from img_core.spec.values import Descriptor, Platform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_core.spec.exporter import Attestation, ImageStore

__all__ = ["STATEMENT_TYPE", "attach"]

#: The media type of a statement.
STATEMENT_TYPE = "application/vnd.in-toto+json"

_ARTIFACT_TYPE = "application/vnd.docker.attestation.manifest.v1+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "in-toto.io/predicate-type"
_NOWHERE = Platform("unknown", "unknown")
_EMPTY = b"{}"


def attach(
    store: ImageStore, attestations: Sequence[Attestation], image: Descriptor, names: Sequence[str]
) -> Descriptor:
    """Put *attestations* about *image*, the manifest of one that is called *names*, into *store*; return their entry for the index."""
    subject = _subject(image, names)
    layers = [_layer(store, item, subject) for item in attestations]
    empty = oci.descriptor_document(store.put(_EMPTY, oci.OCI_EMPTY))
    document = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "artifactType": _ARTIFACT_TYPE,
        "config": {**empty, "data": base64.b64encode(_EMPTY).decode()},
        "layers": [oci.descriptor_document(layer) for layer in layers],
        "subject": oci.descriptor_document(replace(image, platform=None, annotations={})),
    }
    manifest = store.put(oci.canonical_json(document), oci.OCI_MANIFEST)
    told = {"vnd.docker.reference.digest": image.digest, "vnd.docker.reference.type": "attestation-manifest"}
    return replace(manifest, platform=_NOWHERE, annotations=told)


def _layer(store: ImageStore, attestation: Attestation, subject: Sequence[object]) -> Descriptor:
    statement = {
        "_type": _STATEMENT,
        "predicateType": attestation.predicate_type,
        "subject": subject,
        "predicate": attestation.predicate,
    }
    layer = store.put(oci.canonical_json(statement), STATEMENT_TYPE)
    return replace(layer, annotations={_PREDICATE_TYPE: attestation.predicate_type})


def _subject(image: Descriptor, names: Sequence[str]) -> list[dict[str, object]]:
    """Return what the statements are about: the image by each of its names; one without any is ``_``, so that its digest is told."""
    algorithm, _, value = image.digest.partition(":")
    called = [_package_url(name, image.platform) for name in names] or ["_"]
    return [{"name": name, "digest": {algorithm: value}} for name in called]


def _package_url(name: str, platform: Platform | None) -> str:
    reference = Reference.parse(name)
    path = "/".join(quote(part, safe="") for part in reference.familiar_name.split("/"))
    version = f"@{quote(reference.tag, safe='')}" if reference.tag else ""
    qualifiers = {"digest": reference.digest, "platform": str(platform) if platform else ""}
    told = "&".join(f"{key}={quote(value, safe='')}" for key, value in qualifiers.items() if value)
    return f"pkg:docker/{path}{version}" + (f"?{told}" if told else "")
