"""Which host is what: origins, loopback, hosts that may be insecure, and who may see a password."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from img_core.linux.later import Later, standing_in

with standing_in([Later("ipaddress")]):  # for addresses in brackets only, and 2 ms
    from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ipaddress
    from collections.abc import Collection

__all__ = [
    "Origin",
    "address_of",
    "authority",
    "is_address",
    "is_insecure",
    "is_loopback",
    "is_same_site",
    "origin",
    "split_port",
]

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: Second-level names below which strangers register theirs, e.g. ``co.uk``; only together with a two-letter country.
_SHARED_SECOND_LEVEL = frozenset({"ac", "co", "com", "edu", "gob", "gov", "go", "ne", "net", "nom", "or", "org"})
#: Domains whose sub-domains belong to different customers.
_SHARED_DOMAINS = (
    "amazonaws.com", "azurecr.io", "azurewebsites.net", "cloudfront.net", "fly.dev", "github.io", "gitlab.io",
    "herokuapp.com", "jfrog.io", "pages.dev", "pkg.dev", "run.app", "workers.dev",
)  # fmt: skip


class Origin(NamedTuple):
    """What credentials are bound to."""

    scheme: str
    host: str  #: bare, lower-case
    port: int


def split_port(host: str) -> tuple[str, str]:
    """Split ``host[:port]`` into the bare host (IPv6 without brackets) and the port's digits or nothing."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name, rest.removeprefix(":")
    name, _, port = host.partition(":")
    return name, port


def authority(url: str) -> str:
    """Return ``host:port`` of *url* (IPv6 in brackets), the port always given; empty if *url* is no HTTP URL."""
    where = origin(url)
    if where is None:
        return ""
    return f"[{where.host}]:{where.port}" if ":" in where.host else f"{where.host}:{where.port}"


@lru_cache(maxsize=256)  # asked ten times for each request
def origin(url: str) -> Origin | None:
    """Return scheme, host and port of *url*: what credentials are bound to. None for what is no HTTP URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        return None
    return Origin(parts.scheme, parts.hostname, port if port is not None else _DEFAULT_PORTS[parts.scheme])


def is_loopback(host: str) -> bool:
    """Tell whether the bare *host* is this machine for sure: ``localhost``, 127.0.0.0/8 or ::1."""
    if _is_ipv4(host):
        return host.startswith("127.")
    address = address_of(host) if ":" in host else None
    return host.lower() == "localhost" if address is None else address.is_loopback


def is_insecure(host: str, insecure: Collection[str]) -> bool:
    """Tell whether plain HTTP and unverified TLS were asked for ``host[:port]``: ``*``, itself, or its bare host is listed."""
    return "*" in insecure or host in insecure or split_port(host)[0] in insecure


def is_same_site(host: str, other: str) -> bool:
    """Tell whether two bare hosts belong to one owner, as far as names can tell: ``registry.a.org`` and ``auth.a.org``.

    Without a list of public suffixes this is a cautious guess; addresses must be equal.
    """
    host, other = host.lower().rstrip("."), other.lower().rstrip(".")
    if host == other:
        return True
    if is_address(host) or is_address(other):
        return False
    return _registrable(host) is not None and _registrable(host) == _registrable(other)


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that the bare *host* is, or None if it is a name."""
    import ipaddress  # 2 ms; most hosts are names or IPv4

    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_address(host: str) -> bool:
    """Tell whether the bare *host* is an address and no name."""
    return _is_ipv4(host) or (":" in host and address_of(host) is not None)


def _is_ipv4(host: str) -> bool:
    parts = host.split(".")
    return len(parts) == 4 and all(map(_is_byte, parts))


def _is_byte(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 255 and str(int(text)) == text


def _registrable(host: str) -> str | None:
    """Return the part of *host* that one owner registered, e.g. ``example.co.uk``; None if it is not that long."""
    labels = host.split(".")
    if len(labels) < 2 or not all(labels):
        return None
    keep = 2
    if len(labels[-1]) == 2 and labels[-2] in _SHARED_SECOND_LEVEL:
        keep = 3
    if host.endswith(tuple("." + domain for domain in _SHARED_DOMAINS)):
        return host  # a neighbour there is a stranger
    return ".".join(labels[-keep:]) if len(labels) >= keep else None
