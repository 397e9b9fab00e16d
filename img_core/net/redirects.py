"""Where an answer sends us, if that is an address to follow."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit, urlunsplit

from img_core.net.hosts import authority, origin
from img_core.net.retry import Failure
from img_core.spec.text import show

if TYPE_CHECKING:
    from img_core.net.transport import Response

__all__ = ["REDIRECTS", "location_of"]

#: HTTP statuses that name another place (RFC 9110, 15.4).
REDIRECTS = frozenset({301, 302, 303, 307, 308})


def location_of(response: Response) -> str:
    """Return the absolute ``Location`` of *response*. Raises `Failure` for what is no HTTP address, or a step down from HTTPS."""
    location = response.header("location")
    try:
        target = urljoin(response.url, location or "")
        has_user = urlsplit(target).username is not None
    except ValueError:
        target, has_user = "", True
    here, there = origin(response.url), origin(target)
    if not location or here is None or there is None or has_user or not target.isprintable():
        raise Failure(f"it sends us to `{show(location or '')}`, which is no address to follow", transient=False)
    if here.scheme == "https" and there.scheme != "https":
        if here.host == there.host and there.port in {80, here.port}:
            # A registry behind a proxy that ends TLS believes that it speaks plain HTTP; the proxy knows better.
            return urlunsplit(urlsplit(target)._replace(scheme="https", netloc=urlsplit(response.url).netloc))
        raise Failure(f"it sends us from HTTPS to plain HTTP at `{authority(target)}`", transient=False)
    return target
