"""Pull from one registry (OCI distribution-spec 1.1)."""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from img_core import __version__
from img_core.kit import oci
from img_core.kit.reference import is_digest
from img_core.kit.registry._auth import Authenticator
from img_core.kit.registry._errors import failure_of_status, public_error
from img_core.kit.registry._hosts import authority, endpoint_host, is_insecure, is_loopback, origin, split_port
from img_core.kit.registry._http import Http
from img_core.kit.registry._retry import Attempts, Failure, Limits
from img_core.kit.text import show
from img_core.spec.errors import IntegrityError
from img_core.spec.values import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from img_core.kit.registry._http import Response
    from img_core.spec.values import Credentials, Descriptor

__all__ = ["Fetched", "RegistryClient"]

_PROGRESS = 64 * 1024  # bytes that make a cut transfer count as progress
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Fetched(NamedTuple):
    """A manifest or an index as the registry has it."""

    content: bytes
    media_type: str  #: Content-Type, may be empty
    digest: Digest  #: computed from *content*


class RegistryClient:
    """Speaks to the registry of one *domain* (as in `Reference.domain`). Safe to use from several threads.

    *credentials* is asked at most once per repository, and only when the registry wants to know who we are.
    HTTPS always, except on loopback and for hosts in *insecure* (``host[:port]`` or ``*``), where plain HTTP and unverified
    certificates are accepted as well. *environment* supplies the proxy variables (default: ours).

    Errors: `NotFoundError`, `CredentialsError`, `IntegrityError` (content is not what was promised), `RegistryError` for the rest.
    """

    def __init__(
        self,
        domain: str,
        *,
        credentials: Callable[[str, str], Credentials | None] = lambda _server, _repository: None,
        insecure: Collection[str] = frozenset(),
        environment: Mapping[str, str] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.domain = domain
        self._host = endpoint_host(domain)
        self._credentials = credentials
        self._insecure = insecure
        self._limits = limits or Limits()
        self._http = Http(
            environment=os.environ if environment is None else environment, insecure=insecure, limits=self._limits
        )
        self._stop = threading.Event()
        self._lock = threading.Lock()  # guards the two below
        self._base: str | None = None
        self._authenticators: dict[str, Authenticator] = {}

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all waiting and close all connections; the client cannot be used any more."""
        self._stop.set()
        self._http.close()

    def manifest(self, repository: str, reference: str, *, accept: Iterable[str] = oci.ACCEPT) -> Fetched:
        """Fetch the manifest or index that *reference* (tag or digest) names; verified if it is a digest."""
        separator = "@" if is_digest(reference) else ":"
        name = f"{self.domain}/{repository}{separator}{reference}"
        headers = {"Accept": ", ".join(accept)}
        path = f"{quote(repository)}/manifests/{quote(reference, safe=':')}"
        with self._reported(name):
            attempts = self._attempts()
            while True:
                try:
                    with self._get(repository, path, headers) as response:
                        return _read_manifest(response, reference, name)
                except Failure as failure:
                    attempts.wait_or_raise(failure)

    def blob(self, repository: str, descriptor: Descriptor, *, verify: bool = True) -> Iterator[bytes]:
        """Give the bytes of a blob as they arrive; continues where a cut connection stopped.

        Never gives more than ``descriptor.size`` bytes. With *verify* the digest is checked too, after the last byte: an
        `IntegrityError` then means that everything given so far must be thrown away. Descriptor ``urls`` are not used.
        """
        name = f"{self.domain}/{repository}@{descriptor.digest}"
        if not is_digest(descriptor.digest):
            raise IntegrityError(f"`{show(descriptor.digest)}` is not a digest that can be verified")
        hasher = hashlib.new(descriptor.digest.partition(":")[0]) if verify else None
        with self._reported(name):
            for chunk in self._blob_chunks(repository, descriptor):
                if hasher is not None:
                    hasher.update(chunk)
                yield chunk
        if hasher is not None and f"{hasher.name}:{hasher.hexdigest()}" != descriptor.digest:
            raise IntegrityError(f"{name}: the registry sent other content: {hasher.name}:{hasher.hexdigest()}")

    def small_blob(self, repository: str, descriptor: Descriptor, *, limit: int = oci.DOCUMENT_LIMIT) -> bytes:
        """Fetch a whole verified blob, e.g. an image config, of at most *limit* bytes."""
        if descriptor.size > limit:
            raise IntegrityError(
                f"{self.domain}/{repository}@{descriptor.digest}: {descriptor.size} bytes are more than the {limit} allowed here"
            )
        return b"".join(self.blob(repository, descriptor))

    def ping(self) -> None:
        """Check that the registry is there and accepts our credentials; what `img login` does before it stores them."""
        with self._reported(f"{self.domain}/v2/"):
            attempts = self._attempts()
            while True:
                try:
                    return self._get("", "", {}).close()
                except Failure as failure:
                    attempts.wait_or_raise(failure)

    # --- blobs ----------------------------------------------------------------------------------------------------

    def _blob_chunks(self, repository: str, descriptor: Descriptor) -> Iterator[bytes]:
        """Give exactly ``descriptor.size`` bytes, over as many connections as it takes."""
        path = f"{quote(repository)}/blobs/{descriptor.digest}"
        attempts, received = self._attempts(), 0
        while True:
            start = received
            try:
                headers = {"Range": f"bytes={start}-{descriptor.size - 1}"} if start else {}
                with self._get(repository, path, headers) as response:
                    for chunk in _from_offset(response, start, descriptor):
                        received += len(chunk)
                        yield chunk
                if received == descriptor.size:
                    return
                raise Failure(f"the connection ended after {received} of {descriptor.size} bytes", transient=True)
            except Failure as failure:
                if received - start >= _PROGRESS:
                    attempts.restart()
                attempts.wait_or_raise(failure)

    # --- one exchange -----------------------------------------------------------------------------------------------

    def _get(self, repository: str, path: str, headers: Mapping[str, str]) -> Response:
        """GET ``/v2/<path>`` with the rights to pull; returns an answer of status 2xx, to be closed by the caller."""
        url = f"{self._base_url()}/v2/{path}"
        scope = f"repository:{repository}:pull" if repository else ""
        authenticator = self._authenticator(repository)
        authorization = authenticator.header(scope)
        response = self._follow(url, headers, authorization)
        if response.status == 401 and origin(response.url) == origin(url):
            with response:
                authorization = authenticator.answer(response, scope, sent=authorization)
            response = self._follow(url, headers, authorization)
            if response.status == 401 and origin(response.url) == origin(url):
                with response:
                    raise authenticator.refusal(repository)
        if 200 <= response.status < 300:
            return response
        with response:
            raise failure_of_status(response, "")

    def _follow(self, url: str, headers: Mapping[str, str], authorization: str | None) -> Response:
        """GET *url* through redirects; *authorization* never goes to another scheme, host or port."""
        home = origin(url)
        sent = {"User-Agent": f"img/{__version__}", "Accept-Encoding": "identity", **headers}
        for _ in range(self._limits.redirects + 1):
            if origin(url) != home:
                authorization = None  # for good: a way back would be the stranger's idea
            response = self._http.send("GET", url, {**sent, "Authorization": authorization} if authorization else sent)
            if response.status not in _REDIRECTS:
                return response
            with response:
                url = _redirect_target(response)
        raise Failure(f"more than {self._limits.redirects} redirects", transient=False)

    def _attempts(self) -> Attempts:
        return Attempts(self._limits, self._stop)

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

    @contextmanager
    def _reported(self, name: str) -> Iterator[None]:
        """Turn a final `Failure` into the error that people see; *name* is what was asked for."""
        try:
            yield
        except Failure as failure:
            raise public_error(failure, name, authority(self._base or f"https://{self._host}")) from failure


def _redirect_target(response: Response) -> str:
    location = response.header("location")
    try:
        target = urljoin(response.url, location or "")
        has_user = urlsplit(target).username is not None
    except ValueError:
        target, has_user = "", True
    here, there = origin(response.url), origin(target)
    if not location or here is None or there is None or has_user or not target.isprintable():
        raise Failure(f"a redirect to `{show(location or '')}`, which is no address to follow", transient=False)
    if here.scheme == "https" and there.scheme != "https":
        raise Failure(f"a redirect from HTTPS to plain HTTP at `{authority(target)}`", transient=False)
    return target


def _read_manifest(response: Response, reference: str, name: str) -> Fetched:
    content = response.read(oci.DOCUMENT_LIMIT)
    if content is None:
        raise IntegrityError(f"{name}: the manifest has more than {oci.DOCUMENT_LIMIT} bytes")
    actual = oci.digest(content)
    told = response.header("docker-content-digest")
    for promised in (reference if is_digest(reference) else None, told if told and is_digest(told) else None):
        if promised and promised.startswith("sha256:") and promised != actual:
            raise IntegrityError(f"{name}: the registry sent other content: {actual} instead of {promised}")
    return Fetched(content, response.header("content-type") or "", actual)


def _from_offset(response: Response, start: int, descriptor: Descriptor) -> Iterator[bytes]:
    """Give the body from byte *start* of the blob on, checking what the server says about ranges and lengths."""
    size = descriptor.size
    first = _first_byte(response, start, size)
    length = response.header("content-length")
    if length is not None and length.isdigit() and first + int(length[:20]) != size:
        raise IntegrityError(
            f"{descriptor.digest}: the registry offers {first + int(length[:20])} bytes instead of {size}"
        )
    position = first
    for chunk in response.chunks():
        position += len(chunk)
        if position > size:
            raise IntegrityError(f"{descriptor.digest}: the registry sends more than the promised {size} bytes")
        skipped = max(0, len(chunk) - (position - start))  # a server without ranges starts all over
        if position > start:
            yield chunk[skipped:] if skipped else chunk


def _first_byte(response: Response, start: int, size: int) -> int:
    """Return the position of the body's first byte in the blob."""
    if response.status != 206:
        return 0
    unit, _, text = (response.header("content-range") or "").partition(" ")
    span, _, total = text.partition("/")
    first, _, _last = span.partition("-")
    if unit != "bytes" or first != str(start) or total not in {"*", str(size)}:
        raise Failure(f"a part of the blob that nobody asked for: `{show(text)}`", transient=True)
    return start
