"""Single files from web servers: GET with redirects and retries, for whatever is no registry.

::

    web = Web(environment=os.environ)
    content = web.get(url, lambda response: response.read(1 << 20))
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from img_core import __version__
from img_core.net.addresses import secret_names
from img_core.net.hosts import authority, origin
from img_core.net.redirects import REDIRECTS, location_of
from img_core.net.retry import TRANSIENT_STATUSES, Attempts, Failure, Patience, retry_after_seconds
from img_core.net.transport import Http, Response
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Conditions", "Response", "Web", "origin_text", "shown_url"]

Answer = TypeVar("Answer")
_WANTED = frozenset({200, 304})


@dataclass(frozen=True, slots=True)
class Conditions:
    """The *headers* of a conditional request, and who may hear them and answer: *origin*, which gave them (`origin_text`)."""

    origin: str
    headers: Mapping[str, str]

    def hold_for(self, url: str) -> bool:
        """Tell whether *url* is of that origin."""
        return bool(self.headers) and origin_text(url) == self.origin


def origin_text(url: str) -> str:
    """Return scheme, host and port of *url* as a text."""
    where = origin(url)
    return f"{where.scheme}://{authority(url)}" if where else ""


class Web:
    """A client for single files; keeps connections, no cookies. Safe to use from several threads.

    *environment* names the proxies. Certificates are always verified: what a user says about registries is not about the web.
    """

    def __init__(self, *, environment: Mapping[str, str], limits: Patience | None = None) -> None:
        self._limits = limits or Patience()
        self._http = Http(environment=environment, insecure=(), limits=self._limits)
        self._stop = threading.Event()

    def get(
        self,
        url: str,
        use: Callable[[Response], Answer],
        *,
        conditions: Conditions | None = None,
        authorization: str = "",
    ) -> Answer:
        """GET *url* and return what *use* makes of the answer, which has status 200 or 304; its body is unread and undecoded.

        *authorization* (the value of that header) goes to the scheme, host and port of *url* only, whatever it redirects to;
        *conditions* go to their own. A status 304 from anybody else is an error.
        Transient failures start again from the beginning: *use* may be called several times.
        Raises RegistryError, with the status if there is one, and Canceled after `close`.
        """
        attempts = Attempts(self._limits, self._stop)
        while True:
            try:
                with self._follow(url, conditions, authorization) as response:
                    _check_status(response, conditions)
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

    def _follow(self, url: str, conditions: Conditions | None, authorization: str) -> Response:
        home = origin(url)
        common = {"User-Agent": f"img/{__version__}", "Accept-Encoding": "identity"}
        for _ in range(self._limits.redirects + 1):
            if origin(url) != home:
                authorization = ""  # for good: a way back would be the stranger's idea
            sent = {**common, "Authorization": authorization} if authorization else dict(common)
            if conditions is not None and conditions.hold_for(url):
                sent |= conditions.headers
            response = self._http.send("GET", url, sent)
            if response.status not in REDIRECTS:
                return response
            with response:
                url = location_of(response)
        raise Failure(f"more than {self._limits.redirects} redirects", transient=False)


def _check_status(response: Response, conditions: Conditions | None) -> None:
    unasked = response.status == 304 and (conditions is None or not conditions.hold_for(response.url))
    if response.status not in _WANTED or unasked:
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
        hint = f"give a token as `--secret id=HTTP_AUTH_TOKEN_{secret_names(url)[-1]}`" if secret_names(url) else None
    return RegistryError(
        f"failed to fetch `{shown_url(url)}`: {failure.reason}{tries}", hint=hint, status=failure.status
    )


def shown_url(url: str) -> str:
    """Return *url* for people: ``***`` for user and password, and without the query, which may be a secret, too."""
    from urllib.parse import urlsplit

    from img_core.spec.text import show

    try:
        parts = urlsplit(url)
        user, _, host = parts.netloc.rpartition("@")
        shown = f"{parts.scheme}://{user and '***@'}{authority(url) if origin(url) else host}{parts.path}"
    except ValueError:
        shown = url.partition("?")[0]
    return show(shown)
