"""HTTP requests to services that keep objects: repeated when that helps, and told in one line when it does not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from img_core.images import oci
from img_core.net.hosts import authority
from img_core.net.retry import TRANSIENT_STATUSES, Attempts, Failure, Patience, retry_after_seconds
from img_core.net.transport import Http
from img_core.spec.errors import CredentialsError, ImgError, IntegrityError, NotFoundError
from img_core.spec.text import show

if TYPE_CHECKING:
    from img_core.net.transport import Response
    from img_core.spec.values import Descriptor

__all__ = ["Objects", "Signer"]

Answer = TypeVar("Answer")

#: Returns the headers of a request, with whatever says who we are: ``(method, url, headers) -> headers``.
Signer = Callable[[str, str, Mapping[str, str]], Mapping[str, str]]

_LIMIT = oci.DOCUMENT_LIMIT * 4
_REASON_LIMIT = 2000


class Objects:
    """Sends requests with what *sign* adds. Safe to use from several threads."""

    def __init__(self, environment: Mapping[str, str], sign: Signer, *, brief: bool = False) -> None:
        self._limits = Patience(tries=2, connect_seconds=5.0) if brief else Patience()
        self._http = Http(environment=environment, insecure=(), limits=self._limits)
        self._sign = sign
        self._stop = threading.Event()

    def close(self) -> None:
        """End all waiting and close all connections."""
        self._stop.set()
        self._http.close()

    def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: Callable[[], Iterable[bytes] | bytes] = lambda: b"",
        doing: str,
        signed: bool = True,
        accepted: Iterable[int] = (),
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Send a request; return status, body and some headers of an answer of status 2xx, or one of *accepted*.

        *doing* completes "failed to …". Raises NotFoundError, CredentialsError, ImgError.
        """
        others = frozenset(accepted)

        def once() -> tuple[int, bytes, Mapping[str, str]]:
            with self._send(method, url, headers or {}, content(), signed, others) as response:
                body = response.read(_LIMIT)
                if body is None:
                    raise Failure(f"an answer of more than {_LIMIT} bytes", transient=False)
                names = ("last-modified", "etag", "location", "content-length")
                return response.status, body, {name: response.header(name) or "" for name in names}

        with self._reported(doing, url):
            return self._repeated(once)

    def chunks(
        self, url: str, descriptor: Descriptor, start: int, *, doing: str, signed: bool = True
    ) -> Iterator[bytes]:
        """Give the bytes of an object from *start* on, over as many connections as it takes. Raises as `ask`, and IntegrityError."""
        received = start
        attempts = Attempts(self._limits, self._stop)
        with self._reported(doing, url):
            while received < descriptor.size:
                before = received
                try:
                    headers = {"Range": f"bytes={received}-{descriptor.size - 1}"} if received else {}
                    with self._send("GET", url, headers, b"", signed, frozenset()) as response:
                        _check_size(response, descriptor)
                        skip = received if response.status == 200 else 0
                        for chunk in response.chunks():
                            piece, skip = chunk[skip:], max(0, skip - len(chunk))
                            received += len(piece)
                            if received > descriptor.size:
                                raise IntegrityError(f"{descriptor.digest} has more than the promised bytes")
                            if piece:
                                yield piece
                    if received < descriptor.size:
                        raise Failure(f"it ended after {received} of {descriptor.size} bytes", transient=True)
                except Failure as failure:
                    if received > before:
                        attempts.restart()
                    attempts.wait_or_raise(failure)

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: Iterable[bytes] | bytes,
        signed: bool,
        accepted: frozenset[int],
    ) -> Response:
        sent = {"Accept-Encoding": "identity", **headers}
        response = self._http.send(method, url, self._sign(method, url, sent) if signed else sent, content)
        if 200 <= response.status < 300 or response.status in accepted:
            return response
        with response:
            text = (response.read(_REASON_LIMIT) or b"").decode("utf-8", "replace")
            raise Failure(
                f"HTTP status {response.status}" + (f": {show(' '.join(text.split()))}" if text else ""),
                transient=response.status in TRANSIENT_STATUSES,
                status=response.status,
                wait=retry_after_seconds(response.header("retry-after")),
            )

    def _repeated(self, once: Callable[[], Answer]) -> Answer:
        attempts = Attempts(self._limits, self._stop)
        while True:
            try:
                return once()
            except Failure as failure:
                attempts.wait_or_raise(failure)

    @contextmanager
    def _reported(self, doing: str, url: str) -> Iterator[None]:
        try:
            yield
        except Failure as failure:
            message = f"failed to {doing} at `{authority(url)}`: {failure.reason}"
            if failure.status == 404:
                raise NotFoundError(message) from failure
            if failure.status in (401, 403):
                raise CredentialsError(message) from failure
            raise ImgError(message, hint=failure.hint) from failure


def _check_size(response: Response, descriptor: Descriptor) -> None:
    """Raise IntegrityError if the object is known not to have the size of *descriptor*: asking again would be of no use."""
    told = response.header("content-length") or ""
    if response.status == 206:
        told = (response.header("content-range") or "").rpartition("/")[2]
    if told.isdecimal() and int(told[:20]) != descriptor.size:
        raise IntegrityError(f"{descriptor.digest} has {told[:20]} bytes instead of {descriptor.size}")
