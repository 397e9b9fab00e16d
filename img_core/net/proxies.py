"""Which proxy a request goes through, by the variables that everybody uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.net.hosts import address_of, is_address, is_loopback, origin, split_port

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["proxy_for"]


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
    address = address_of(host)
    if "/" in entry:
        import ipaddress

        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, entry_port = (entry, "") if is_address(entry) else split_port(entry)
    if entry_port and entry_port != str(port):
        return False
    name = name.removeprefix("*").removeprefix(".")
    return host == name or (address is None and host.endswith(f".{name}"))
