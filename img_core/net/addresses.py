"""Which secret of a build is for which web address: a secret goes to the origin (scheme, host, port) that it was given for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.net.hosts import authority, origin

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["same_origin", "secret_names"]


def secret_names(url: str) -> tuple[str, ...]:
    """Return what the origin of *url* may be called in the id of a secret for it, the most exact first; empty if *url* is no HTTP URL.

    That is ``[https://]host[:port]``, the port without need only if it is 443; an origin that is plain HTTP has to be called so.
    """
    where = origin(url)
    if where is None:
        return ()
    full = authority(url)
    default = full.endswith(":443" if where.scheme == "https" else ":80")
    places = (full, full.rpartition(":")[0]) if default else (full,)
    whole = tuple(f"{where.scheme}://{place}" for place in places)
    return (*whole, *places) if where.scheme == "https" else whole


def same_origin(url: str, others: Iterable[str]) -> bool:
    """Tell whether *url* has scheme, host and port of one of *others*."""
    where = origin(url)
    return where is not None and where in map(origin, others)
