"""How servers are called in credential files: host names, URLs of old, and namespaces below a host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.images.reference import DEFAULT_DOMAIN, HUB_HOSTS

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["hub_name_key", "hub_url_key", "keys_of", "server_of"]

_HUB_KEY = "https://index.docker.io/v1/"
_API_PATHS = frozenset({"", "v1", "v2"})


def hub_url_key(server: str) -> str:
    """Return the key that Docker writes for *server*."""
    return _HUB_KEY if server in HUB_HOSTS else server


def hub_name_key(server: str) -> str:
    """Return the key that podman and its relatives write for *server*."""
    return DEFAULT_DOMAIN if server in HUB_HOSTS else server


def server_of(key: str) -> str:
    """Return the server that *key* belongs to, without scheme and path: ``https://h.example/v1/`` -> ``h.example``."""
    return _split(key)[0]


def keys_of(keys: Iterable[str], server: str, repository: str = "") -> list[str]:
    """Return those of *keys* that speak for *repository* of *server*, the best first.

    A namespace (``h.example/team``) speaks only for repositories in it; the longest is the best. Docker's own spelling of a
    server comes before any other.
    """
    wanted = DEFAULT_DOMAIN if server in HUB_HOSTS else server
    ranked = []
    for key in keys:
        host, namespace = _split(key)
        if host == wanted and (not namespace or repository == namespace or repository.startswith(namespace + "/")):
            ranked.append((-len(namespace), key != hub_url_key(server), key))
    return [key for _, _, key in sorted(ranked)]


def _split(key: str) -> tuple[str, str]:
    """Split *key* into its server and the namespace it is limited to, if any."""
    host, _, path = key.removeprefix("https://").removeprefix("http://").partition("/")
    namespace = path.strip("/")
    if namespace in _API_PATHS:
        namespace = ""
    return (DEFAULT_DOMAIN if host in HUB_HOSTS else host), namespace
