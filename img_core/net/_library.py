"""The one module that knows the HTTP library: httpx, and httpcore below it, which carries the requests.

httpx itself is twice the import of httpcore (cookies, forms, its client and its command line: 30 ms, a seventh of a small push). So it is
loaded for what only it does: addresses that are not plain, and those of proxies.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from img_core.linux.later import Later, standing_in
from img_core.net import _hostnames
from img_core.net.hosts import is_address, origin
from img_core.spec._lazy import names_from

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["load", "load_httpx", "new_pool", "new_request", "transport_errors"]

# Any, below: the library is hidden from type checks on purpose, so that a compatible one can take its place.

_importing = threading.Lock()  # of the library: several threads may send their first request at the same time

#: Modules that the library imports and needs for coroutines only, or for certificates that we do not use: together they take a third of the
#: time of a small push, where all are installed.
_LATER = ("trio", "anyio", "certifi")
_COROUTINES = "httpcore._async"  #: its own part for coroutines, a tenth of its import

#: As httpx has them: most connections at all, most that are kept when nobody uses them, and for how many seconds.
_LIMITS = {"max_connections": 100, "max_keepalive_connections": 20, "keepalive_expiry": 5.0}

_DIGITS = "0123456789"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_HEX = frozenset(_DIGITS + "abcdefABCDEF")
_PLAIN_HOST = frozenset(_LETTERS + _DIGITS + ".-:[]")
_PLAIN = frozenset(_LETTERS + _LETTERS.upper() + _DIGITS + "-._~:/?=&,+@%[]")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})  #: methods that say how long nothing is

# Its dataclasses are made in each command that asks a registry, and nobody compares or shows their values. The standard library compiles
# half a dozen functions for each, 0.4 ms; here it does so when somebody needs one of them.
_FORM = {"init": False, "frozen": True}  #: arguments of those that can wait
_GENERATED = ("__repr__", "__dataclass_fields__", "__dataclass_params__", "__match_args__")
_MADE_AGAIN = (*_GENERATED, "__setattr__", "__delattr__")

_finishing = threading.RLock()  # guards what classes lack; of one and of what it is built on together


def load() -> Any:
    """Return httpcore; its import gets stand-ins for what it does not need."""
    with _importing:
        if "httpcore" not in sys.modules:
            _hostnames.prepare()
            _import()
        return sys.modules["httpcore"]


def _import() -> None:
    coroutines = Later(_COROUTINES, placeholders=True)
    logging = Later("logging", {"getLogger": _Logger, "DEBUG": 10})
    with standing_in([*map(Later, _LATER), coroutines, logging]), _finished_later():
        import httpcore
    library: Any = httpcore
    for name in coroutines.asked:  # they were passed on: who asks for them gets the real ones
        delattr(library, name)
    library.__getattr__ = names_from("httpcore", {_COROUTINES: tuple(coroutines.asked)})


class _Logger:
    """A logger of the library: that of `logging` as soon as anybody has imported that; nobody else can have asked for what it says."""

    def __init__(self, name: str) -> None:
        self.name = name

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - as `logging` calls it
        """Tell whether anybody wants to read messages of *level*."""
        return "logging" in sys.modules and bool(self._real.isEnabledFor(level))

    @property
    def _real(self) -> Any:
        return import_module("logging").getLogger(self.name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def transport_errors() -> tuple[type[Exception], ...]:
    """Return what the library raises for what went wrong on the way, itself among it."""
    library = load()
    return (
        library.TimeoutException,
        library.NetworkError,
        library.ProtocolError,
        library.ProxyError,
        library.UnsupportedProtocol,
    )


def new_pool(context: ssl.SSLContext, proxy: str | None) -> Any:
    """Return a pool of connections, through *proxy* if there is one. Raises ValueError, and ImportError if that needs another library."""
    library = load()
    settings: dict[str, Any] = {"ssl_context": context, "http1": True, "http2": False, **_LIMITS}
    if proxy is None:
        return library.ConnectionPool(**settings)
    parsed = _parsed_by_httpx(lambda httpx: httpx.Proxy(proxy))
    url = parsed.url
    settings["proxy_auth"] = parsed.raw_auth
    settings["proxy_url"] = library.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    if url.scheme not in ("http", "https"):
        return _socks_pool(library, settings)
    return library.HTTPProxy(**settings, proxy_headers=parsed.headers.raw)


def _socks_pool(library: Any, settings: dict[str, Any]) -> Any:
    try:
        import_module("socksio")  # the library says nothing that people understand
    except ImportError:
        raise ImportError("a SOCKS proxy needs the package `socksio`: install `httpx[socks]`") from None
    return library.SOCKSProxy(**settings)


def new_request(
    method: str,
    url: str,
    headers: Mapping[str, str],
    content: Iterable[bytes] | bytes,
    extensions: Mapping[str, Any],
) -> Any:
    """Return a request with ``Host``, and the length of *content* if that is known. Raises ValueError for what cannot be sent."""
    library = load()
    address = _address(url)
    sent = [(b"Host", address.netloc)]
    sent += [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
    if not {"content-length", "transfer-encoding"} & {name.lower() for name in headers}:
        sent += _length(method, content)
    where = library.URL(scheme=address.scheme, host=address.host, port=address.port, target=address.target)
    return library.Request(method, where, headers=sent, content=content, extensions=dict(extensions))


def _length(method: str, content: Iterable[bytes] | bytes) -> list[tuple[bytes, bytes]]:
    if not isinstance(content, bytes):
        return [(b"Transfer-Encoding", b"chunked")]
    return [(b"Content-Length", b"%d" % len(content))] if content or method in _WITH_BODY else []


class _Address(NamedTuple):
    """A web address as a request needs it; *host* without brackets, *port* None for the scheme's own."""

    scheme: str
    host: bytes
    port: int | None
    target: bytes
    netloc: bytes


def _address(url: str) -> _Address:
    parts = urlsplit(url)
    where = origin(url)
    if where is None or not _is_plain(url, parts):
        parsed = _parsed_by_httpx(lambda httpx: httpx.URL(url))
        return _Address(parsed.scheme, parsed.raw_host, parsed.port, parsed.raw_path, parsed.netloc)
    port = None if where.port == _DEFAULT_PORTS[where.scheme] else where.port
    shown = f"[{where.host}]" if ":" in where.host else where.host
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    netloc = shown if port is None else f"{shown}:{port}"
    return _Address(where.scheme, where.host.encode(), port, target.encode(), netloc.encode())


def _is_plain(url: str, parts: SplitResult) -> bool:
    """Tell whether nothing in *url* has to be encoded, decoded, resolved or checked: most are so."""
    host = parts.hostname or ""
    return (
        _PLAIN.issuperset(url)
        and _PLAIN_HOST.issuperset(parts.netloc)
        and "/." not in parts.path
        and not url.endswith("?")
        and all(len(code) >= 2 and _HEX.issuperset(code[:2]) for code in url.split("%")[1:])
        and (not _looks_numeric(host) or is_address(host))
    )


def _looks_numeric(host: str) -> bool:
    return not host or ":" in host or host.rpartition(".")[2].isdigit()


def _parsed_by_httpx(parse: Callable[[Any], Any]) -> Any:
    """Return what *parse* makes with httpx."""
    httpx = load_httpx()
    try:
        return parse(httpx)
    except httpx.InvalidURL as err:
        raise ValueError(str(err)) from err


def load_httpx() -> Any:
    """Return httpx, without its command-line module, which would load click, rich and pygments (60 ms)."""
    with _importing:
        blocked = "httpx" not in sys.modules and "httpx._main" not in sys.modules
        if blocked:
            sys.modules["httpx._main"] = None  # type: ignore[assignment]  # documented: makes the import fail
        try:
            import httpx
        finally:
            if blocked:
                del sys.modules["httpx._main"]
        return httpx


@contextmanager
def _finished_later() -> Iterator[None]:
    """Let ``@dataclass(init=False, frozen=True)`` in modules that the block imports do most of its work when somebody needs it."""
    sys.modules["dataclasses"] = _Dataclasses(
        "dataclasses"
    )  # does for another thread that imports it now what the real one does
    try:
        yield
    finally:
        sys.modules["dataclasses"] = dataclasses


class _Dataclasses(ModuleType):
    """`dataclasses`, but for its decorator."""

    @staticmethod
    def dataclass(cls: type | None = None, /, **options: bool) -> Any:  # a class, or what makes one of it
        """Do what the decorator of the standard library does, perhaps later."""
        if cls is None and options == _FORM:
            return _begun
        return dataclasses.dataclass(**options) if cls is None else dataclasses.dataclass(cls, **options)

    def __getattr__(self, name: str) -> object:
        return getattr(dataclasses, name)


def _begun(cls: type) -> type:
    """Freeze *cls*, and let the rest wait; not where the hash or a method of its own would be another then."""
    if {*_MADE_AGAIN, "__eq__"} & vars(cls).keys() or vars(cls).get("__hash__", cls) is not None:
        return _finished(cls)

    def equal(self: object, other: object) -> Any:  # the library asks that of values of other classes
        if type(other) is not type(self):
            return NotImplemented
        names = [field.name for field in dataclasses.fields(cls) if field.compare]
        return [getattr(self, name) for name in names] == [getattr(other, name) for name in names]

    namespace = {name: _Attribute(cls, name) for name in _GENERATED}
    for name, value in {**namespace, "__eq__": equal, "__setattr__": _refuse, "__delattr__": _refuse}.items():
        setattr(cls, name, value)
    return cls


def _finished(cls: type) -> type:
    made: type = dataclasses.dataclass(init=False, frozen=True)(cls)
    return made


def _refuse(_self: object, name: str, *_value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot change field {name!r}")


class _Attribute:
    """Stands for what *cls* lacks until somebody asks for it."""

    def __init__(self, cls: type, name: str) -> None:
        self._cls = cls
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:  # whatever the standard library makes
        with _finishing:
            if vars(self._cls).get(self._name) is self:  # else another thread was quicker
                for name in _MADE_AGAIN:
                    delattr(self._cls, name)
                _finished(self._cls)
                setattr(self._cls, "__hash__", None)  # noqa: B010  # as it was written; types have no such attribute
        return getattr(owner if instance is None else instance, self._name)
