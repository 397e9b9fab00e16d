"""Which host is what: registry endpoints, loopback, insecure hosts, proxies, and who may see a password."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from img_core.images.reference import DEFAULT_DOMAIN

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = [
    "Origin",
    "authority",
    "endpoint_host",
    "is_insecure",
    "is_loopback",
    "is_same_site",
    "origin",
    "proxy_for",
    "split_port",
]

_HUB_ENDPOINT = "registry-1.docker.io"
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


def endpoint_host(domain: str) -> str:
    """Return the ``host[:port]`` that serves the registry API for the *domain* of a reference."""
    return _HUB_ENDPOINT if domain == DEFAULT_DOMAIN else domain


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
    address = _address(host)
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
    if _address(host) is not None or _address(other) is not None:
        return False
    return _registrable(host) is not None and _registrable(host) == _registrable(other)


def proxy_for(url: str, environment: Mapping[str, str]) -> str | None:
    """Return the proxy for *url* by ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` (either case), or None.

    Loopback is never proxied, as in Go. ``HTTP_PROXY`` in capitals is ignored in a CGI process (httpoxy).
    """
    where = origin(url)
    if (
        where is None
        or is_loopback(where.host)
        or _bypasses_proxy(where.host, where.port, _variable("no_proxy", environment))
    ):
        return None
    if where.scheme == "http" and "REQUEST_METHOD" in environment:
        return environment.get("http_proxy") or None
    proxy = _variable(f"{where.scheme}_proxy", environment) or _variable("all_proxy", environment)
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _variable(name: str, environment: Mapping[str, str]) -> str | None:
    return environment.get(name) or environment.get(name.upper()) or None


def _bypasses_proxy(host: str, port: int, no_proxy: str | None) -> bool:
    entries = (entry.strip().lower() for entry in (no_proxy or "").split(","))
    return any(_entry_matches(entry, host, port) for entry in entries if entry)


def _entry_matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    address = _address(host)
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, entry_port = (entry, "") if _address(entry) is not None else split_port(entry)
    if entry_port and entry_port != str(port):
        return False
    name = name.removeprefix("*").removeprefix(".")
    return host == name or (address is None and host.endswith(f".{name}"))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


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
