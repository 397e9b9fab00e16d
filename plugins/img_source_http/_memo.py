"""What a server said about a URL last: enough to ask "is it still the same?" and to know the content if it is.

It holds only where it was learnt: for the same URL, asked with the same credentials, trusting the same authorities, and its validators go
to the origin that gave them. Else who once could answer for a server could go on answering when he cannot any more.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from img_core.files import fs
from img_core.net.web import Conditions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Memo", "Memos"]

_LIMIT = 64 * 1024  # bytes of one file


@dataclass(frozen=True, slots=True)
class Memo:
    """One answer of status 200: its validators, and the digests (``sha256:…``) of its content by algorithm."""

    etag: str = ""
    last_modified: str = ""
    origin: str = ""  #: who gave these (`kit.web.origin_text`), after all redirects
    digests: Mapping[str, str] = field(default_factory=dict)

    def conditions(self) -> Conditions:
        """Return what makes a request conditional (RFC 9110, 13.1); without headers if the server gave nothing to compare."""
        if self.etag:
            return Conditions(self.origin, {"If-None-Match": self.etag})
        return Conditions(self.origin, {"If-Modified-Since": self.last_modified} if self.last_modified else {})


class Memos:
    """Memos in *directory*, one small file each under a name that does not tell of what: URLs and credentials are secrets.

    *trust* names whatever decides whom we believe, beside the system's own store of certificates.
    """

    def __init__(self, directory: str, trust: Sequence[str]) -> None:
        self._directory = directory
        self._trust = tuple(trust)

    def get(self, url: str, authorization: str) -> Memo | None:
        """Return what is known of *url*, asked with *authorization*; a file that cannot be read is as good as none."""
        try:
            with open(self._path(url, authorization), "rb") as file:
                return _parse(json.loads(file.read(_LIMIT)))
        except (OSError, ValueError, RecursionError):
            return None

    def put(self, url: str, authorization: str, memo: Memo) -> None:
        """Remember *memo*."""
        validators = {"etag": memo.etag, "last-modified": memo.last_modified, "origin": memo.origin}
        document = {**validators, "digests": dict(memo.digests)}
        with suppress(FileNotFoundError):  # the directory was collected just now; a memo only saves time
            os.makedirs(self._directory, 0o700, exist_ok=True)
            fs.replace_file(self._path(url, authorization), json.dumps(document).encode())

    def _path(self, url: str, authorization: str) -> str:
        # Version 2: earlier ones did not say how they were trusted, some were learnt without verification.
        text = json.dumps([2, url, authorization, *self._trust])
        return os.path.join(self._directory, hashlib.sha256(text.encode()).hexdigest())


def _parse(document: Any) -> Memo | None:  # Any: JSON
    if not isinstance(document, dict):
        return None
    texts = [str(document.get(name, "")) for name in ("etag", "last-modified", "origin")]
    digests = document.get("digests")
    if not isinstance(digests, dict):
        return None
    return Memo(texts[0], texts[1], texts[2], {str(name): str(value) for name, value in digests.items()})
