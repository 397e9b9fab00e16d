"""What a registry lists page by page, above all the tags of a repository (distribution-spec 1.1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin

from img_core.images import oci
from img_core.images.reference import is_tag
from img_core.net.hosts import origin
from img_core.net.retry import Failure
from img_core.spec.errors import ImgError

if TYPE_CHECKING:
    from img_core.net.transport import Response
    from img_registry_oci._places import RepositoryPlace

__all__ = ["PAGES_LIMIT", "list_tags", "next_page", "read_object"]

_PAGE = 1000
PAGES_LIMIT = 200  #: more would be a registry that leads us in a circle
_NEXT = re.compile(r'<([^<>]*)>\s*;[^,<]*\brel="?next"?')  # no part may run into the next one: linear time


def list_tags(place: RepositoryPlace) -> list[str]:
    """Return all tags, in the registry's order. Raises `Failure`."""
    target = f"{quote(place.repository)}/tags/list?n={_PAGE}"
    found: dict[str, None] = {}
    for _ in range(PAGES_LIMIT):
        page, following = place.session.repeated(lambda: _page(place, target))  # noqa: B023  # called at once
        found.update(dict.fromkeys(page))
        if not following:
            return list(found)
        target = following
    raise Failure(f"more than {PAGES_LIMIT} pages of tags", transient=False)


def _page(place: RepositoryPlace, target: str) -> tuple[list[str], str]:
    with place.session.send("GET", place.repository, target, scope=_scope(place)) as response:
        content = response.read(oci.DOCUMENT_LIMIT)
        following = next_page(response)
    document = read_object(content, "the list of tags")
    tags = document.get("tags") or []  # null where there are none
    if not isinstance(tags, list):
        raise Failure("the list of tags is none", transient=False)
    return [tag for tag in tags if isinstance(tag, str) and is_tag(tag)], following


def next_page(response: Response) -> str:
    """Return the address of the next page, empty after the last one; only the registry itself may name it."""
    match = _NEXT.search(response.header("link") or "")
    if match is None:
        return ""
    try:
        target = urljoin(response.url, match[1])
    except ValueError as err:  # e.g. an open bracket where a host begins
        raise Failure("the address of the next page is none", transient=False) from err
    if origin(target) != origin(response.url):
        raise Failure("the next page is on another host", transient=False)
    return str(target)


def read_object(content: bytes | None, name: str) -> dict[str, Any]:  # Any: JSON
    """Return the JSON object in *content* (None: it was too large), called *name* in messages. Raises `Failure`."""
    if content is None:
        raise Failure(f"{name} is too large", transient=False)
    try:
        document = oci.load_json(content, name=name)
    except ImgError as err:
        raise Failure(err.message, transient=False) from err
    return document if isinstance(document, dict) else {}


def _scope(place: RepositoryPlace) -> str:
    return f"repository:{place.repository}:pull"
