"""The signed document of a suite: its digest says what a base is made of, its date what time it has."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from img_core.spec import ImgError, NotFoundError
from img_core.spec.text import show

if TYPE_CHECKING:
    from img_core.net.web import Web

__all__ = ["Release", "read_release"]

_LIMIT = 16 << 20  #: bytes; those of Debian have a quarter of a megabyte
_DATE = re.compile(rb"^Date: *(.+?)\r?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Release:
    """*digest*: hexadecimal SHA-256 of the document; *date*: seconds since 1970. Nobody has checked its signature yet: apt does."""

    digest: str
    date: int


def read_release(url: str, web: Web) -> Release:
    """Read what stands at *url*. Raises NotFoundError, RegistryError, ImgError for what is no such document."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        content = _read_file(unquote(parts.path))
    else:
        content = web.get(url, lambda response: response.read(_LIMIT)) or b""  # None: there is more
    match = _DATE.search(content)
    if match is None:
        raise ImgError(f"`{show(url)}` is not the document of a suite", hint="is the mirror's address right?")
    try:
        date = int(parsedate_to_datetime(match[1].decode("ascii", "replace")).timestamp())
    except ValueError:
        raise ImgError(f"`{show(url)}` has a date that nobody can read: `{show(match[1])}`") from None
    return Release(hashlib.sha256(content).hexdigest(), date)


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_LIMIT)
    except OSError as err:
        raise NotFoundError(f"cannot read `{show(path)}`: {(err.strerror or '').lower()}") from err
