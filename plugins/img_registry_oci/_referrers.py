"""What refers to a manifest: signatures, bills of materials… (distribution-spec 1.1, "Listing Referrers" and "Referrers Tag Schema").

Registries from before 1.1 keep no such list; there the clients keep it, as an index under a tag made from the digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from img_core.images import oci
from img_core.images.digests import is_digest
from img_core.net.retry import Failure
from img_core.spec.errors import ImgError
from img_registry_oci._listing import PAGES_LIMIT, next_page, read_object

if TYPE_CHECKING:
    from img_core.spec.values import Descriptor, Digest
    from img_registry_oci._places import RepositoryPlace

__all__ = ["find_referrers", "note_referrer"]

_NAME = "the list of referrers"


def find_referrers(place: RepositoryPlace, digest: Digest, artifact_type: str) -> list[Descriptor]:
    """Return the manifests whose subject is *digest*, of one *artifact_type* (empty: all). Raises `Failure`."""
    query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
    found = _asked(place, f"{quote(place.repository)}/referrers/{digest}{query}")
    if found is None:
        found = _asked(place, _list_path(place, digest)) or []
    return [item for item, kind in found if not artifact_type or kind in ("", artifact_type)]


def note_referrer(place: RepositoryPlace, content: bytes, media_type: str) -> None:
    """Add a manifest that was just pushed to the list of its subject, if it has one. Raises `Failure`."""
    if b'"subject"' not in content:
        return
    document = read_object(content, "the manifest")
    subject = document.get("subject")
    subject_digest = subject.get("digest") if isinstance(subject, dict) else None
    if not isinstance(subject_digest, str) or not is_digest(subject_digest):
        return
    path = _list_path(place, subject_digest)
    listed = _kept_list(place, path)
    entry = _entry(document, content, media_type)
    if all(item.get("digest") != entry["digest"] for item in listed):
        index = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": [*listed, entry]}
        body = oci.canonical_json(index)
        headers = {"Content-Type": oci.OCI_INDEX, "Content-Length": str(len(body))}
        scope = f"repository:{place.repository}:pull,push"
        place.session.repeated(
            lambda: place.session.send(
                "PUT", place.repository, path, headers=headers, content=body, scope=scope
            ).close()
        )


def _entry(document: dict[str, Any], content: bytes, media_type: str) -> dict[str, Any]:  # Any: JSON
    """Describe a manifest as the list has it: with its kind and its annotations."""
    config = document.get("config")
    kind = document.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    entry: dict[str, Any] = {"mediaType": media_type, "digest": oci.digest(content), "size": len(content)}
    if kind:
        entry["artifactType"] = kind
    if document.get("annotations"):
        entry["annotations"] = document["annotations"]
    return entry


def _list_path(place: RepositoryPlace, digest: str) -> str:
    return f"{quote(place.repository)}/manifests/{digest.replace(':', '-')}"


def _kept_list(place: RepositoryPlace, path: str) -> list[dict[str, Any]]:  # Any: JSON
    """Return the entries of the list that clients keep, as they stand there."""
    try:
        content, _ = place.session.repeated(lambda: _read(place, path))
    except Failure as failure:
        if failure.status == 404:
            return []
        raise
    manifests = read_object(content, _NAME).get("manifests")
    return [item for item in manifests if isinstance(item, dict)] if isinstance(manifests, list) else []


def _asked(place: RepositoryPlace, target: str) -> list[tuple[Descriptor, str]] | None:
    """Return what all pages of a list name, with its kind as far as that is told; None if there is no such list."""
    found: list[tuple[Descriptor, str]] = []
    for _ in range(PAGES_LIMIT):
        try:
            content, following = place.session.repeated(lambda: _read(place, target))  # noqa: B023  # called at once
        except Failure as failure:
            if failure.status == 404:
                return None
            raise
        found += _manifests(content)
        if not following:
            return found
        target = following
    raise Failure(f"more than {PAGES_LIMIT} pages of referrers", transient=False)


def _read(place: RepositoryPlace, target: str) -> tuple[bytes | None, str]:
    headers, scope = {"Accept": oci.OCI_INDEX}, f"repository:{place.repository}:pull"
    with place.session.send("GET", place.repository, target, headers=headers, scope=scope) as response:
        return response.read(oci.DOCUMENT_LIMIT), next_page(response)


def _manifests(content: bytes | None) -> list[tuple[Descriptor, str]]:
    document = read_object(content, _NAME)
    try:
        parsed = oci.parse_index(content or b"", name=_NAME).manifests
    except ImgError as err:
        raise Failure(err.message, transient=False) from err
    kinds = [str(entry.get("artifactType") or "") for entry in document["manifests"]]
    return list(zip(parsed, kinds, strict=True))
