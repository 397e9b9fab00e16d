"""Pull from, and push to, one registry (OCI distribution-spec 1.1)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from img_core.kit import oci
from img_core.kit.reference import is_digest
from img_core.kit.registry._retry import Failure
from img_core.kit.registry._session import Session
from img_core.kit.registry._upload import Upload, Uploaded
from img_core.kit.text import show
from img_core.spec.errors import IntegrityError
from img_core.spec.values import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from img_core.kit.registry._http import Response
    from img_core.kit.registry._retry import Limits
    from img_core.spec.values import Credentials, Descriptor

__all__ = ["Fetched", "RegistryClient"]

_PROGRESS = 64 * 1024  # bytes that make a cut transfer count as progress


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
        self._session = Session(
            domain, credentials=credentials, insecure=insecure, environment=environment, limits=limits
        )

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all waiting and close all connections; the client cannot be used any more."""
        self._session.close()

    def ping(self) -> None:
        """Check that the registry is there and accepts our credentials; what `img login` does before it stores them."""
        with self._session.reported(f"reach {self.domain}"):
            self._session.repeated(lambda: self._session.send("GET", "", "").close())

    # --- pull -------------------------------------------------------------------------------------------------------

    def manifest(self, repository: str, reference: str, *, accept: Iterable[str] = oci.ACCEPT) -> Fetched:
        """Fetch the manifest or index that *reference* (tag or digest) names; verified if it is a digest."""
        name = self._name(repository, reference)

        def once() -> Fetched:
            with self._get(
                repository, _manifest_path(repository, reference), {"Accept": ", ".join(accept)}
            ) as response:
                return _read_manifest(response, reference, name)

        accept = tuple(accept)
        with self._session.reported(f"fetch {name}"):
            return self._session.repeated(once)

    def resolve(self, repository: str, reference: str) -> Digest | None:
        """Ask for the digest that *reference* names now, without fetching it; None if the registry does not say.

        Cheap, and does not count as a pull on Docker Hub. Nothing is verified: use it to compare with what is known.
        """

        def once() -> str | None:
            headers = {"Accept": ", ".join(oci.ACCEPT)}
            path = _manifest_path(repository, reference)
            with self._session.send("HEAD", repository, path, headers=headers, scope=_pull(repository)) as response:
                return response.header("docker-content-digest")

        with self._session.reported(f"look up {self._name(repository, reference)}"):
            digest = self._session.repeated(once)
        return Digest(digest) if digest and is_digest(digest) else None

    def blob(self, repository: str, descriptor: Descriptor, *, verify: bool = True, start: int = 0) -> Iterator[bytes]:
        """Give the bytes of a blob from *start* on as they arrive; continues where a cut connection stopped.

        Never gives more than ``descriptor.size`` bytes. With *verify* the digest is checked too, after the last byte: an
        `IntegrityError` then means that everything given so far must be thrown away; it needs the whole blob, a *start* of 0.
        Descriptor ``urls`` are not used.
        """
        name = f"{self.domain}/{repository}@{descriptor.digest}"
        if not is_digest(descriptor.digest):
            raise IntegrityError(f"`{show(descriptor.digest)}` is not a digest that can be verified")
        hasher = hashlib.new(descriptor.digest.partition(":")[0]) if verify else None
        with self._session.reported(f"fetch {name}"):
            for chunk in self._blob_chunks(repository, descriptor, start):
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

    # --- push -------------------------------------------------------------------------------------------------------

    def upload(
        self,
        repository: str,
        descriptor: Descriptor,
        read: Callable[[int], Iterable[bytes]],
        *,
        mount_from: str | None = None,
    ) -> Uploaded:
        """Bring a blob into *repository*, sending it only if it is not there and cannot be mounted from *mount_from*.

        *read* gives the bytes from an offset on; it is called again to continue a cut transfer. The registry verifies the
        digest. Blobs go before the manifest that names them.
        """
        with self._session.reported(f"push {self.domain}/{repository}@{descriptor.digest}"):
            return Upload(self._session, repository, descriptor, read).run(mount_from)

    def put_manifest(self, repository: str, reference: str, content: bytes, media_type: str) -> Digest:
        """Store a manifest or index under *reference* (tag or digest); return its digest."""
        name = self._name(repository, reference)
        headers = {"Content-Type": media_type, "Content-Length": str(len(content))}
        path = _manifest_path(repository, reference)

        def once() -> str | None:
            scope = f"repository:{repository}:pull,push"
            with self._session.send("PUT", repository, path, headers=headers, content=content, scope=scope) as response:
                return response.header("docker-content-digest")

        with self._session.reported(f"push {name}"):
            told = self._session.repeated(once)
        digest = oci.digest(content)
        if told and told.startswith("sha256:") and told != digest:
            raise IntegrityError(f"{name}: the registry stored other content: {show(told)} instead of {digest}")
        return digest

    # --- parts ------------------------------------------------------------------------------------------------------

    def _blob_chunks(self, repository: str, descriptor: Descriptor, received: int) -> Iterator[bytes]:
        """Give the bytes from *received* to ``descriptor.size``, over as many connections as it takes."""
        path = f"{quote(repository)}/blobs/{descriptor.digest}"
        attempts = self._session.attempts()
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
                if received == descriptor.size:
                    return
                if received - start >= _PROGRESS:
                    attempts.restart()
                attempts.wait_or_raise(failure)

    def _get(self, repository: str, path: str, headers: Mapping[str, str]) -> Response:
        return self._session.send("GET", repository, path, headers=headers, scope=_pull(repository))

    def _name(self, repository: str, reference: str) -> str:
        return f"{self.domain}/{repository}{'@' if is_digest(reference) else ':'}{reference}"


def _pull(repository: str) -> str:
    return f"repository:{repository}:pull"


def _manifest_path(repository: str, reference: str) -> str:
    return f"{quote(repository)}/manifests/{quote(reference, safe=':')}"


def _read_manifest(response: Response, reference: str, name: str) -> Fetched:
    content = response.read(oci.DOCUMENT_LIMIT)
    if content is None:
        raise IntegrityError(f"{name}: the manifest has more than {oci.DOCUMENT_LIMIT} bytes")
    for promised in (reference, response.header("docker-content-digest") or ""):
        if is_digest(promised):
            algorithm = promised.partition(":")[0]
            actual = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
            if actual != promised:
                raise IntegrityError(f"{name}: the registry sent other content: {actual} instead of {promised}")
    return Fetched(content, response.header("content-type") or "", oci.digest(content))


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
