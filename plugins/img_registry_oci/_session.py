"""One registry and how to reach it: address, login, redirects, retries. What is asked of it is `_client` and `_upload`."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from img_core import __version__
from img_core.net.hosts import authority, is_insecure, is_loopback, origin, split_port
from img_core.net.redirects import REDIRECTS, location_of
from img_core.net.retry import Attempts, Failure
from img_core.net.transport import Http
from img_registry_oci._auth import Authenticator, lacking_rights
from img_registry_oci._errors import failure_of_status, public_error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from img_core.net.retry import Patience
    from img_core.net.transport import Response
    from img_core.net.trust import Trust
    from img_core.spec.values import Credentials

__all__ = ["RegistrySession"]

Answer = TypeVar("Answer")
_LOGINS = 3  # a token that another thread got may have expired when we use it; one of our own is the last word
#: By method. Only 307 and 308 keep a POST what it is (RFC 9110, 15.4). What has a body is not sent again to who knows where.
_FOLLOWED = {"GET": REDIRECTS, "HEAD": REDIRECTS, "POST": frozenset({307, 308})}


class RegistrySession:
    """Sends requests to *host*, which serves the registry *domain*; see `RegistryClient`. Safe to use from several threads."""

    def __init__(
        self,
        domain: str,
        *,
        host: str,
        trust: Trust,
        credentials: Callable[[str, str], Credentials | None],
        insecure: Collection[str],
        environment: Mapping[str, str],
        limits: Patience,
    ) -> None:
        self.domain = domain
        self._host = host
        self._credentials = credentials
        self._insecure = insecure
        self._token_servers = trust.token_servers
        self._limits = limits
        self._http = Http(
            environment=environment,
            insecure=insecure,
            limits=self._limits,
            trust={authority(f"https://{host}"): trust},
        )
        self._stop = threading.Event()
        self._lock = threading.Lock()  # guards the two below
        self._base: str | None = None
        self._authenticators: dict[str, Authenticator] = {}

    def close(self) -> None:
        """End all waiting and close all connections; the session cannot be used any more."""
        self._stop.set()
        self._http.close()

    def attempts(self) -> Attempts:
        """Return a new count of tries for one operation."""
        return Attempts(self._limits, self._stop)

    def repeated(self, once: Callable[[], Answer]) -> Answer:
        """Call *once* until it raises no transient `Failure`, within the limits."""
        attempts = self.attempts()
        while True:
            try:
                return once()
            except Failure as failure:
                attempts.wait_or_raise(failure)

    @contextmanager
    def reported(self, doing: str) -> Iterator[None]:
        """Turn a final `Failure` into the error that people see; *doing* completes "failed to …"."""
        try:
            yield
        except Failure as failure:
            raise public_error(failure, doing, authority(self._base or f"https://{self._host}")) from failure

    def send(
        self,
        method: str,
        repository: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: Callable[[], Iterable[bytes]] | bytes = b"",
        scope: str = "",
    ) -> Response:
        """Send one request, logging in if that is asked; return an answer of status 2xx, to be closed by the caller.

        *target* is a path below ``/v2/`` or a whole URL that the registry gave us. *scope* holds the rights that are needed,
        separated by spaces. *content* is called again when the request is repeated after a login. Raises `Failure`.
        """
        base = self._base_url()
        url = target if origin(target) else f"{base}/v2/{target}"
        sent = {"User-Agent": f"img/{__version__}", "Accept-Encoding": "identity", **(headers or {})}
        authenticator = self._authenticator(repository)
        at_home = origin(url) == origin(base)
        authorization = authenticator.header(scope) if at_home else None
        response = self._follow(method, url, sent, content, authorization)
        fresh = False
        for _ in range(_LOGINS):
            if fresh or not self._wants_login(response, base):
                break
            with response:
                authorization, fresh = authenticator.answer(response, scope, sent=authorization)
            response = self._follow(method, url, sent, content, authorization if at_home else None)
        if self._wants_login(response, base):
            with response:
                raise authenticator.refusal(repository, lacking_rights(response))
        if 200 <= response.status < 300:
            return response
        with response:
            raise failure_of_status(response)

    def _wants_login(self, response: Response, base: str) -> bool:
        """Tell whether the registry itself refused us; a stranger behind a redirect has no say in logins."""
        return response.status == 401 and origin(response.url) == origin(base)

    def _follow(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: Callable[[], Iterable[bytes]] | bytes,
        authorization: str | None,
    ) -> Response:
        """Send a request, through redirects (`_FOLLOWED`); *authorization* never goes to another scheme, host or port."""
        home = origin(url)
        for _ in range(self._limits.redirects + 1):
            if origin(url) != home:
                authorization = None  # for good: a way back would be the stranger's idea
            sent = {**headers, "Authorization": authorization} if authorization else headers
            response = self._http.send(method, url, sent, content if isinstance(content, bytes) else content())
            followed = () if content and method == "POST" else _FOLLOWED.get(method, ())
            if response.status not in followed:
                return response
            with response:
                url = location_of(response)
        raise Failure(f"more than {self._limits.redirects} redirects", transient=False)

    def _authenticator(self, repository: str) -> Authenticator:
        base = self._base_url()
        with self._lock:
            if repository not in self._authenticators:
                self._authenticators[repository] = Authenticator(
                    self._http,
                    server=self.domain,
                    base=base,
                    credentials=lambda: self._credentials(self.domain, repository),
                    insecure=self._insecure,
                    token_servers=self._token_servers,
                )
            return self._authenticators[repository]

    def _base_url(self) -> str:
        with self._lock:
            if self._base is None:
                self._base = f"{self._scheme()}://{self._host}"
            return self._base

    def _scheme(self) -> str:
        """Find out whether the registry speaks TLS, where plain HTTP is allowed at all.

        On loopback plain HTTP is tried first: a TLS server answers it at once with an alert or status 400, while some plain
        servers would wait for ever for the end of a TLS greeting. Elsewhere TLS is tried first. No credentials are sent.
        """
        if is_loopback(split_port(self._host)[0]):
            status = self._status_of(f"http://{self._host}/v2/")
            return "https" if status is None or status == 400 or 300 <= status < 400 else "http"
        if is_insecure(self._host, self._insecure):
            return "https" if self._status_of(f"https://{self._host}/v2/") is not None else "http"
        return "https"

    def _status_of(self, url: str) -> int | None:
        try:
            with self._http.send("GET", url, {"User-Agent": f"img/{__version__}"}) as response:
                return response.status
        except Failure:
            return None
