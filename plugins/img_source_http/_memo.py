"""What a server said about a URL last: enough to ask "is it still the same?" and to know the content if it is."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from img_core.kit import fs

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Memo", "Memos"]

_LIMIT = 64 * 1024  # bytes of one file


@dataclass(frozen=True, slots=True)
class Memo:
    """One answer of status 200: its validators, and the digests (``sha256:…``) of its content by algorithm."""

    etag: str = ""
    last_modified: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)

    def conditions(self) -> dict[str, str]:
        """Return the headers of a conditional request (RFC 9110, 13.1); none if the server gave nothing to compare."""
        if self.etag:
            return {"If-None-Match": self.etag}
        return {"If-Modified-Since": self.last_modified} if self.last_modified else {}


class Memos:
    """Memos in *directory*, one small file per URL under a name that does not tell it: a URL may hold a secret."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def get(self, url: str) -> Memo | None:
        """Return what is known of *url*; a file that cannot be read is as good as none."""
        try:
            with open(self._path(url), "rb") as file:
                return _parse(json.loads(file.read(_LIMIT)))
        except (OSError, ValueError, RecursionError):
            return None

    def put(self, url: str, memo: Memo) -> None:
        """Remember *memo*."""
        document = {"etag": memo.etag, "last-modified": memo.last_modified, "digests": dict(memo.digests)}
        with suppress(FileNotFoundError):  # the directory was collected just now; a memo only saves time
            os.makedirs(self._directory, 0o700, exist_ok=True)
            fs.replace_file(self._path(url), json.dumps(document).encode())

    def _path(self, url: str) -> str:
        return os.path.join(self._directory, hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest())


def _parse(document: Any) -> Memo | None:  # Any: JSON
    if not isinstance(document, dict):
        return None
    etag, modified, digests = document.get("etag"), document.get("last-modified"), document.get("digests")
    if not isinstance(etag, str) or not isinstance(modified, str) or not isinstance(digests, dict):
        return None
    return Memo(etag, modified, {str(name): str(value) for name, value in digests.items()})
