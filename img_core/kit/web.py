"""Single files from web servers: GET with redirects and retries, for whatever is no registry.

::

    web = Web(environment=os.environ)
    with web.get(url, {"If-None-Match": etag}) as response:
        if response.status == 200:
            for chunk in response.chunks(): …
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from img_core import __version__
from img_core.kit.registry._hosts import authority, origin
from img_core.kit.registry._http import Http, Response
from img_core.kit.registry._retry import TRANSIENT_STATUSES, Attempts, Failure, Limits, retry_after_seconds
from img_core.kit.registry._session import location_of
from img_core.spec.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

__all__ = ["Response", "Web"]

Answer = TypeVar("Answer")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WANTED = frozenset({200, 304})


class Web:
    """A client for single files; keeps connections, no cookies. Safe to use from several threads.

    *environment* names the proxies. For the hosts in *insecure* (``*``: all) certificates are not verified.
    """

    def __init__(
        self, *, environment: Mapping[str, str], insecure: Collection[str] = (), limits: Limits | None = None
    ) -> None:
        self._limits = limits or Limits()
        self._http = Http(environment=environment, insecure=insecure, limits=self._limits)
        self._stop = threading.Event()

    def get(
        self,
        url: str,
        use: Callable[[Response], Answer],
        *,
        headers: Mapping[str, str] | None = None,
        authorization: str = "",
    ) -> Answer:
        """GET *url* and return what *use* makes of the answer, which has status 200 or 304; its body is unread and undecoded.

        *authorization* (the value of that header) goes to the scheme, host and port of *url* only, whatever it redirects to.
        Transient failures start again from the beginning: *use* may be called several times.
        Raises RegistryError, with the status if there is one, and Canceled after `close`.
        """
        attempts = Attempts(self._limits, self._stop)
        while True:
            try:
                with self._follow(url, headers or {}, authorization) as response:
                    _check_status(response)
                    return use(response)
            except Failure as failure:
                try:
                    attempts.wait_or_raise(failure)
                except Failure as final:
                    raise _public_error(final, url) from final

    def close(self) -> None:
        """End all waiting and close all connections."""
        self._stop.set()
        self._http.close()

    def _follow(self, url: str, headers: Mapping[str, str], authorization: str) -> Response:
        home = origin(url)
        common = {"User-Agent": f"img/{__version__}", "Accept-Encoding": "identity", **headers}
        for _ in range(self._limits.redirects + 1):
            if origin(url) != home:
                authorization = ""  # for good: a way back would be the stranger's idea
            sent = {**common, "Authorization": authorization} if authorization else common
            response = self._http.send("GET", url, sent)
            if response.status not in _REDIRECTS:
                return response
            with response:
                url = location_of(response)
        raise Failure(f"more than {self._limits.redirects} redirects", transient=False)


def _check_status(response: Response) -> None:
    if response.status not in _WANTED:
        raise Failure(
            f"invalid response status {response.status}",
            transient=response.status in TRANSIENT_STATUSES,
            status=response.status,
            wait=retry_after_seconds(response.header("retry-after")),
        )


def _public_error(failure: Failure, url: str) -> RegistryError:
    tries = f" (tried {failure.tries} times)" if failure.tries > 1 else ""
    hint = failure.hint
    if failure.status in {401, 403} and hint is None:
        hint = "give a token as `--secret id=HTTP_AUTH_TOKEN_<host>`"
    return RegistryError(
        f"failed to fetch `{shown_url(url)}`: {failure.reason}{tries}", hint=hint, status=failure.status
    )


def shown_url(url: str) -> str:
    """Return *url* for people: without user, password and query, which may be secrets."""
    from urllib.parse import urlsplit

    from img_core.kit.text import show

    try:
        parts = urlsplit(url)
        return show(
            f"{parts.scheme}://{authority(url) if origin(url) else parts.netloc.rpartition('@')[2]}{parts.path}"
        )
    except ValueError:
        return show(url.partition("?")[0].rpartition("@")[2])
