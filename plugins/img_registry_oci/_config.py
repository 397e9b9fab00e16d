"""Where registries are really asked: mirrors, insecure and blocked hosts, certificates.

Read, the first that knows a repository wins: our own ``registries.toml`` (the user's, then ``/etc/img``), ``registries.conf`` of podman
and its relatives (containers-registries.conf(5)), ``hosts.toml`` of containerd. Certificates of ``certs.d`` directories (Docker's,
podman's) are added to all.

.. code-block:: toml

    [registry."docker.io"]
    mirrors = ["https://mirror.example/hub", "http://10.0.0.1:5000"]

    [registry."registry.lan:5000"]
    insecure = true            # plain HTTP, unverified TLS

    [registry."registry.corp.example"]
    ca = "/etc/ssl/corp.pem"
    client-cert = "/home/joe/corp.cert"
    client-key = "/home/joe/corp.key"
    token-servers = ["login.example"]  # may see the password, although it is another site

    [registry."*.bad.example"]
    blocked = true
"""

from __future__ import annotations

import os
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from img_core.forms.toml import read_toml
from img_core.images.reference import DEFAULT_DOMAIN
from img_core.net.hosts import authority, origin
from img_core.net.trust import Trust
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Endpoint", "HostsConfig", "Rules", "endpoint_host"]

_HUB_ENDPOINT = "registry-1.docker.io"
_OWN_KEYS = frozenset({"mirrors", "insecure", "blocked", "ca", "client-cert", "client-key", "token-servers"})
_WHEN = {"all": "all", "digest-only": "digest", "tag-only": "tag"}


def endpoint_host(domain: str) -> str:
    """Return the ``host[:port]`` that serves the registry API for the *domain* of a reference."""
    return _HUB_ENDPOINT if domain == DEFAULT_DOMAIN else domain


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place to ask. The repository loses *strip* at its start and gets *path* instead. *when*: ``all``, ``digest`` or ``tag``."""

    host: str  #: ``host[:port]``
    path: str = ""
    strip: str = ""
    insecure: bool = False
    when: str = "all"
    trust: Trust = field(default_factory=Trust)

    def repository(self, repository: str) -> str:
        """Return what *repository* is called there."""
        rest = repository[len(self.strip) :].strip("/") if self.strip else repository
        return "/".join(part for part in (self.path, rest) if part)


@dataclass(frozen=True, slots=True)
class Rules:
    """What is configured for one repository: *mirrors* are asked before *main* when pulling. *blocked* is the file that forbids it."""

    main: Endpoint
    mirrors: tuple[Endpoint, ...] = ()
    blocked: str = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One configured prefix: ``host``, ``*.domain`` or ``host/namespace``."""

    prefix: str
    source: str
    location: str = ""
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[tuple[str, bool, str], ...] = ()  #: location, insecure, when
    trust: Trust = field(default_factory=Trust)

    def matches(self, name: str) -> bool:
        """Tell whether the repository *name* (with its host) is meant."""
        host, _, rest = self.prefix.partition("/")
        if host.startswith("*."):
            domain = name.partition("/")[0].partition(":")[0]
            return not rest and domain.endswith(host[1:])
        return name == self.prefix or name.startswith(self.prefix + "/")


class HostsConfig:
    """All that is configured; reads files when it is made. Raises UsageError for a file that cannot be understood."""

    def __init__(self, environment: Mapping[str, str], *, root: str = "/") -> None:
        self._root = root
        home = environment.get("HOME", "")
        config = environment.get("XDG_CONFIG_HOME", "")
        self._config = config if os.path.isabs(config) else os.path.join(home, ".config") if home else ""
        self._docker = environment.get("DOCKER_CONFIG") or (os.path.join(home, ".docker") if home else "")
        chosen = environment.get("CONTAINERS_REGISTRIES_CONF", "")
        self._sources: list[list[_Entry]] = [
            list(_own_entries(self._user("img/registries.toml"))),
            list(_own_entries(self._system("etc/img/registries.toml"))),
            list(self._containers_entries(chosen)),
        ]

    def rules(self, domain: str, repository: str) -> Rules:
        """Return the rules for *repository* of the registry *domain* (as in references)."""
        name = f"{domain}/{repository}"
        for entries in self._sources:
            matching = [entry for entry in entries if entry.matches(name)]
            if matching:
                return self._rules(max(matching, key=lambda entry: len(entry.prefix)), domain)
        return self._containerd_rules(domain) or Rules(self._endpoint(endpoint_host(domain)))

    def _rules(self, entry: _Entry, domain: str) -> Rules:
        strip = entry.prefix.partition("/")[2]
        wildcard = entry.prefix.startswith("*.")
        if entry.location and not wildcard and entry.location != entry.prefix:
            main = self._located(entry.location, entry.insecure, strip=strip)
        else:
            main = self._endpoint(endpoint_host(domain), insecure=entry.insecure, trust=entry.trust)
        mirrors = tuple(self._located(place, lax, strip=strip, when=when) for place, lax, when in entry.mirrors)
        return Rules(main, mirrors, entry.source if entry.blocked else "")

    def _located(self, location: str, insecure: bool, *, strip: str = "", when: str = "all") -> Endpoint:
        host, _, path = location.partition("/")
        if not path and strip:
            path = strip  # only the host is another one
        made = self._endpoint(endpoint_host(host), insecure=insecure)
        return replace(made, path=path, strip=strip, when=when)

    def _endpoint(self, host: str, *, insecure: bool = False, trust: Trust | None = None) -> Endpoint:
        found = self._certificates(host)
        if trust is not None:
            client = trust.client or found.client
            found = Trust((*trust.authorities, *found.authorities), client, trust.token_servers)
        return Endpoint(host, insecure=insecure, trust=found)

    # ------------------------------------------------------------------------------------------------------ places

    def _user(self, path: str) -> str:
        return os.path.join(self._config, path) if self._config else ""

    def _system(self, path: str) -> str:
        return os.path.join(self._root, path)

    # -------------------------------------------------------------------------------------------------- certificates

    def _certificates(self, host: str) -> Trust:
        """Collect the ``certs.d`` directories for *host*: ``*.crt`` are authorities, ``*.cert`` with ``*.key`` is who we are."""
        authorities: list[str] = []
        client: tuple[str, str] | None = None
        for directory in (
            os.path.join(self._docker, "certs.d") if self._docker else "",
            self._user("containers/certs.d"),
            self._system("etc/containers/certs.d"),
            self._system("etc/docker/certs.d"),
        ):
            place = os.path.join(directory, host) if directory else ""
            for name in sorted(_names(place)):
                path = os.path.join(place, name)
                if name.endswith(".crt"):
                    authorities.append(path)
                elif name.endswith(".cert") and client is None:
                    client = (path, path.removesuffix(".cert") + ".key")
        return Trust(tuple(authorities), client)

    # ----------------------------------------------------------------------------------------------- registries.conf

    def _containers_entries(self, chosen: str) -> Iterator[_Entry]:
        if chosen:
            yield from _containers_file(chosen)
            return
        user, system = self._user("containers/registries.conf"), self._system("etc/containers/registries.conf")
        main = user if user and os.path.exists(user) else system
        yield from _containers_file(main)
        for directory in (self._system("etc/containers/registries.conf.d"), self._user("containers/registries.conf.d")):
            for name in sorted(_names(directory)):
                if name.endswith(".conf"):
                    yield from _containers_file(os.path.join(directory, name))

    # ---------------------------------------------------------------------------------------------------- hosts.toml

    def _containerd_rules(self, domain: str) -> Rules | None:
        directory = self._system("etc/containerd/certs.d")
        for name in (domain, domain.replace(":", "_") + "_", "_default"):
            path = os.path.join(directory, name, "hosts.toml")
            document = _read(path)
            if document:
                return self._containerd(document, path, domain)
        return None

    def _containerd(self, document: Mapping[str, Any], path: str, domain: str) -> Rules:  # Any: TOML
        hosts = _table(document, "host", path)
        mirrors = []
        for url, options in hosts.items():
            capabilities = options.get("capabilities", ["pull", "resolve", "push"])
            if "pull" not in capabilities:
                continue
            host, rest, plain = _address(url, path)
            made = self._endpoint(host, insecure=plain or bool(options.get("skip_verify")))
            authorities = tuple(_paths(options.get("ca"), os.path.dirname(path)))
            trust = Trust((*authorities, *made.trust.authorities), made.trust.client)
            when = "all" if "resolve" in capabilities else "digest"
            mirrors.append(replace(made, path=rest.removeprefix("v2").strip("/"), trust=trust, when=when))
        server = document.get("server")
        if isinstance(server, str) and server:
            host, _, plain = _address(server, path)
            return Rules(self._endpoint(host, insecure=plain), tuple(mirrors))
        return Rules(self._endpoint(endpoint_host(domain)), tuple(mirrors))


# ------------------------------------------------------------------------------------------------------------- our own


def _own_entries(path: str) -> Iterator[_Entry]:
    document = _read(path)
    unknown = sorted(set(document) - {"registry"})
    if unknown:
        raise UsageError(f"unknown key `{unknown[0]}` in {path}", hint='the only table is `[registry."HOST"]`')
    for prefix, options in _table(document, "registry", path).items():
        wrong = sorted(set(options) - _OWN_KEYS)
        if wrong:
            known = ", ".join(f"`{key}`" for key in sorted(_OWN_KEYS))
            raise UsageError(f"unknown key `{wrong[0]}` for `{prefix}` in {path}", hint=f"known: {known}")
        certificate, key = options.get("client-cert"), options.get("client-key")
        yield _Entry(
            prefix,
            path,
            insecure=_boolean(options, "insecure", path),
            blocked=_boolean(options, "blocked", path),
            mirrors=tuple(_own_mirrors(options, path)),
            trust=Trust(
                tuple(_paths(options.get("ca"), os.path.dirname(path))),
                (str(certificate), str(key or certificate)) if certificate else None,
                tuple(_texts(options, "token-servers", path)),
            ),
        )


def _own_mirrors(options: Mapping[str, Any], path: str) -> Iterator[tuple[str, bool, str]]:  # Any: TOML
    for url in _texts(options, "mirrors", path):
        host, rest, plain = _address(url, path)
        yield "/".join(part for part in (host, rest) if part), plain, "all"


# ------------------------------------------------------------------------------------------------------ registries.conf


def _containers_file(path: str) -> Iterator[_Entry]:
    listed = _read(path).get("registry", [])
    if not isinstance(listed, list):
        raise UsageError(f"`registry` in {path} must be a list of tables")
    for options in listed:
        location = str(options.get("location") or "")
        prefix = str(options.get("prefix") or location)
        if not prefix:
            raise UsageError(f"a registry in {path} has neither `prefix` nor `location`")
        by_digest = bool(options.get("mirror-by-digest-only"))
        yield _Entry(
            prefix,
            path,
            location,
            insecure=_boolean(options, "insecure", path),
            blocked=_boolean(options, "blocked", path),
            mirrors=tuple(_containers_mirrors(options.get("mirror", []), by_digest=by_digest)),
        )


def _containers_mirrors(value: Iterable[Mapping[str, Any]], *, by_digest: bool) -> Iterator[tuple[str, bool, str]]:
    for options in value:
        when = _WHEN.get(str(options.get("pull-from-mirror") or "all"), "all")
        yield str(options.get("location") or ""), bool(options.get("insecure")), "digest" if by_digest else when


# ---------------------------------------------------------------------------------------------------------------- parts


def _read(path: str) -> dict[str, Any]:  # Any: TOML
    return read_toml(path, skip_unreadable=True) if path else {}


def _table(document: Mapping[str, Any], key: str, path: str) -> dict[str, dict[str, Any]]:  # Any: TOML
    value = document.get(key, {})
    if not isinstance(value, dict) or not all(isinstance(item, dict) for item in value.values()):
        raise UsageError(f"`{key}` in {path} must be a table of tables")
    return value


def _texts(options: Mapping[str, Any], key: str, path: str) -> list[str]:  # Any: TOML
    value = options.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError(f"`{key}` in {path} must be a list of addresses")
    return value


def _boolean(options: Mapping[str, Any], key: str, path: str) -> bool:
    value = options.get(key, False)
    if not isinstance(value, bool):
        raise UsageError(f"`{key}` in {path} must be true or false")
    return value


def _address(url: str, path: str) -> tuple[str, str, bool]:
    """Split ``[https://]host[:port][/path]`` into host, path, and whether it is plain HTTP by its own words."""
    full = url if "://" in url else f"https://{url}"
    where = origin(full)
    if where is None:
        raise UsageError(f"`{url}` in {path} is no address of a registry", hint="e.g. `https://mirror.example`")
    rest = full.partition("://")[2]
    host, _, tail = rest.partition("/")
    return host or authority(full), tail.strip("/"), where.scheme == "http"


def _paths(value: Any, directory: str) -> Iterator[str]:  # Any: TOML
    for item in [value] if isinstance(value, str) else value or ():
        yield os.path.join(directory, str(item))


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory) if directory else []
    except OSError:
        return []
