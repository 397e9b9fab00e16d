"""What a registry tells about a repository: its tags, and what refers to a manifest (distribution-spec 1.1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin

from img_core.kit import oci
from img_core.kit.reference import is_tag
from img_core.kit.registry._hosts import origin
from img_core.kit.registry._retry import Failure
from img_core.spec.errors import ImgError

if TYPE_CHECKING:
    from img_core.kit.registry._http import Response
    from img_core.kit.registry._places import Place
    from img_core.spec.values import Descriptor, Digest

__all__ = ["find_referrers", "list_tags"]

_PAGE = 1000
_PAGES_LIMIT = 200  # more would be a registry that leads us in a circle
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?')


def list_tags(place: Place) -> list[str]:
    """Return all tags, in the registry's order. Raises `Failure`."""
    target = f"{quote(place.repository)}/tags/list?n={_PAGE}"
    found: dict[str, None] = {}
    for _ in range(_PAGES_LIMIT):
        page, following = place.session.repeated(lambda: _page(place, target))  # noqa: B023  # called at once
        found.update(dict.fromkeys(page))
        if not following:
            return list(found)
        target = following
    raise Failure(f"more than {_PAGES_LIMIT} pages of tags", transient=False)


def _page(place: Place, target: str) -> tuple[list[str], str]:
    with place.session.send("GET", place.repository, target, scope=_scope(place)) as response:
        content = response.read(oci.DOCUMENT_LIMIT)
        following = _next_page(response)
    document = _json(content, "the list of tags")
    tags = document.get("tags") or []  # null where there are none
    if not isinstance(tags, list):
        raise Failure("the list of tags is none", transient=False)
    return [tag for tag in tags if isinstance(tag, str) and is_tag(tag)], following


def _next_page(response: Response) -> str:
    """Return the address of the next page, empty after the last one; only the registry itself may name it."""
    match = _NEXT.search(response.header("link") or "")
    if match is None:
        return ""
    target = urljoin(response.url, match[1])
    if origin(target) != origin(response.url):
        raise Failure("the next page of tags is on another host", transient=False)
    return str(target)


def find_referrers(place: Place, digest: Digest, artifact_type: str) -> list[Descriptor]:
    """Return the manifests whose subject is *digest*, of one *artifact_type* (empty: all). Raises `Failure`.

    Registries from before 1.1 keep the list under a tag made from the digest ("Referrers Tag Schema").
    """
    query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
    targets = (f"referrers/{digest}{query}", f"manifests/{digest.replace(':', '-')}")
    for target in targets:
        try:
            content = place.session.repeated(lambda: _read(place, target))  # noqa: B023  # called at once
        except Failure as failure:
            if failure.status == 404:
                continue
            raise
        return [item for item in _manifests(content) if not artifact_type or _kind(item) in ("", artifact_type)]
    return []


def _read(place: Place, target: str) -> bytes | None:
    path = f"{quote(place.repository)}/{target}"
    with place.session.send(
        "GET", place.repository, path, headers={"Accept": oci.OCI_INDEX}, scope=_scope(place)
    ) as response:
        return response.read(oci.DOCUMENT_LIMIT)


def _manifests(content: bytes | None) -> tuple[Descriptor, ...]:
    if content is None:
        raise Failure("the list of referrers is too large", transient=False)
    try:
        return oci.parse_index(content, name="the list of referrers").manifests
    except ImgError as err:
        raise Failure(err.message, transient=False) from err


def _kind(item: Descriptor) -> str:
    """Return the artifact type as far as a descriptor tells; older lists do not."""
    return str(item.annotations.get("org.opencontainers.artifact.type", ""))


def _json(content: bytes | None, name: str) -> dict[str, object]:
    if content is None:
        raise Failure(f"{name} is too large", transient=False)
    try:
        document = oci.load_json(content, name=name)
    except ImgError as err:
        raise Failure(err.message, transient=False) from err
    return document if isinstance(document, dict) else {}


def _scope(place: Place) -> str:
    return f"repository:{place.repository}:pull"
