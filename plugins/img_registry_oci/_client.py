"""Pull from, and push to, one registry (OCI distribution-spec 1.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from img_core.images import oci
from img_core.images.digests import Hasher, is_digest
from img_core.net.retry import Failure
from img_core.spec.errors import CredentialsError, IntegrityError, NotFoundError, RegistryError
from img_core.spec.registry import Fetched
from img_core.spec.text import show
from img_core.spec.values import Digest
from img_registry_oci._places import Places
from img_registry_oci._upload import Upload

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from img_core.net.retry import Patience
    from img_core.net.transport import Response
    from img_core.spec.registry import Uploaded
    from img_core.spec.values import Credentials, Descriptor
    from img_registry_oci._places import RepositoryPlace

__all__ = ["RegistryClient"]

Answer = TypeVar("Answer")
_MIRROR_ERRORS = (RegistryError, CredentialsError, IntegrityError)  #: after these a mirror is not asked again
_PROGRESS = 64 * 1024  # bytes that make a cut transfer count as progress


class RegistryClient:
    """Speaks to the registry of one *domain* (as in `Reference.domain`). Safe to use from several threads.

    *credentials* is asked at most once per repository, and only when the registry wants to know who we are.
    HTTPS always, except on loopback and for hosts in *insecure* (``host[:port]`` or ``*``), where plain HTTP and unverified
    certificates are accepted as well. *environment* supplies the proxy variables and says where configuration files are (default: ours);
    what they say of mirrors, certificates, insecure and blocked hosts is honoured: see `_config`. Pulls ask mirrors first.

    Errors: `NotFoundError`, `CredentialsError`, `IntegrityError` (content is not what was promised), `RegistryError` for the rest.
    """

    def __init__(
        self,
        domain: str,
        *,
        credentials: Callable[[str, str], Credentials | None] = lambda _server, _repository: None,
        insecure: Collection[str] = frozenset(),
        environment: Mapping[str, str] | None = None,
        limits: Patience | None = None,
    ) -> None:
        self.domain = domain
        self._places = Places(
            domain, credentials=credentials, insecure=insecure, environment=environment, limits=limits
        )

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all waiting and close all connections; the client cannot be used any more."""
        self._places.close()

    def ping(self) -> None:
        """Check that the registry is there and accepts our credentials; what `img login` does before it stores them."""
        session = self._places.main("").session
        with session.reported(f"reach {self.domain}"):
            session.repeated(lambda: session.send("GET", "", "").close())

    # --- pull -------------------------------------------------------------------------------------------------------

    def manifest(self, repository: str, reference: str, *, accept: Iterable[str] = oci.ACCEPT) -> Fetched:
        """Fetch the manifest or index that *reference* (tag or digest) names; verified if it is a digest."""
        name, accepted = self._name(repository, reference), {"Accept": ", ".join(accept)}

        def ask(place: RepositoryPlace) -> Fetched:
            def once() -> Fetched:
                with _get(place, _manifest_path(place.repository, reference), accepted) as response:
                    return _read_manifest(response, reference, name)

            with place.session.reported(f"fetch {name}"):
                return place.session.repeated(once)

        return self._first(repository, reference, ask)

    def resolve(self, repository: str, reference: str) -> Digest | None:
        """Ask for the digest that *reference* names now, without fetching it; None if the registry does not say.

        Cheap, and does not count as a pull on Docker Hub. Nothing is verified: use it to compare with what is known.
        """

        name, headers = self._name(repository, reference), {"Accept": ", ".join(oci.ACCEPT)}

        def ask(place: RepositoryPlace) -> str | None:
            def once() -> str | None:
                path, scope = _manifest_path(place.repository, reference), _pull(place.repository)
                with place.session.send("HEAD", place.repository, path, headers=headers, scope=scope) as response:
                    return response.header("docker-content-digest")

            with place.session.reported(f"look up {name}"):
                return place.session.repeated(once)

        digest = self._first(repository, reference, ask)
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
        hasher = Hasher(descriptor.digest) if verify else None
        for chunk in self._blob_from_any(repository, descriptor, start, name):
            if hasher is not None:
                hasher.update(chunk)
            yield chunk
        if hasher is not None and hasher.digest != descriptor.digest:
            raise IntegrityError(f"{name}: the registry sent other content: {hasher.digest}")

    def tags(self, repository: str) -> list[str]:
        """Return all tags of *repository*, in the registry's order."""
        from img_registry_oci._listing import list_tags  # not for who pulls

        place = self._places.main(repository)
        with place.session.reported(f"list the tags of {self.domain}/{repository}"):
            return list_tags(place)

    def referrers(self, repository: str, digest: Digest, *, artifact_type: str = "") -> list[Descriptor]:
        """Return the manifests (signatures, bills of materials…) whose subject is *digest*, if asked only those of *artifact_type*."""
        from img_registry_oci._referrers import find_referrers

        place = self._places.main(repository)
        with place.session.reported(f"list what refers to {self.domain}/{repository}@{digest}"):
            return find_referrers(place, digest, artifact_type)

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
        place = self._places.main(repository)
        mount = self._places.main(mount_from).repository if mount_from else None
        with place.session.reported(f"push {self.domain}/{repository}@{descriptor.digest}"):
            return Upload(place.session, place.repository, descriptor, read).run(mount)

    def put_manifest(self, repository: str, reference: str, content: bytes, media_type: str) -> Digest:
        """Store a manifest or index under *reference* (tag or digest); return its digest.

        If it has a subject and the registry keeps no list of what refers to that, the list is kept in its place.
        """
        name = self._name(repository, reference)
        headers = {"Content-Type": media_type, "Content-Length": str(len(content))}
        place = self._places.main(repository)
        session, there = place
        path, scope = _manifest_path(there, reference), f"repository:{there}:pull,push"

        def once() -> tuple[str | None, bool]:
            with session.send("PUT", there, path, headers=headers, content=content, scope=scope) as response:
                return response.header("docker-content-digest"), response.header("oci-subject") is not None

        with session.reported(f"push {name}"):
            told, listed = session.repeated(once)
            if not listed:
                from img_registry_oci._referrers import note_referrer

                note_referrer(place, content, media_type)
        if told and is_digest(told) and told != oci.digest(content, told):
            stored = oci.digest(content, told)
            raise IntegrityError(f"{name}: the registry stored other content: {show(told)} instead of {stored}")
        return oci.digest(content, reference if is_digest(reference) else "")

    def delete_manifest(self, repository: str, reference: str) -> None:
        """Delete a manifest (by digest), or only a tag where the registry can do that. Raises NotFoundError if it is not there."""
        name, place = self._name(repository, reference), self._places.main(repository)
        path, scope = _manifest_path(place.repository, reference), f"repository:{place.repository}:delete,pull,push"
        with place.session.reported(f"delete {name}"):
            place.session.repeated(lambda: place.session.send("DELETE", place.repository, path, scope=scope).close())

    # --- parts ------------------------------------------------------------------------------------------------------

    def _first(self, repository: str, reference: str, ask: Callable[[RepositoryPlace], Answer]) -> Answer:
        """Return what the first place answers; the registry itself is the last, and its error is the one that counts."""
        *mirrors, main = self._places.all(repository, by_digest=is_digest(reference))
        for mirror in mirrors:
            try:
                return ask(mirror)
            except NotFoundError:
                continue  # it works, but lacks this one
            except _MIRROR_ERRORS:
                self._places.give_up(mirror)
        return ask(main)

    def _blob_from_any(self, repository: str, descriptor: Descriptor, start: int, name: str) -> Iterator[bytes]:
        """Give the bytes from *start* on; where one place fails, the next goes on."""
        *mirrors, main = self._places.all(repository, by_digest=True)
        received = start
        for place in (*mirrors, main):
            try:
                with place.session.reported(f"fetch {name}"):
                    for chunk in _blob_chunks(place, descriptor, received):
                        received += len(chunk)
                        yield chunk
                return
            except NotFoundError:
                if place is main:
                    raise
            except _MIRROR_ERRORS:
                if place is main:
                    raise
                self._places.give_up(place)

    def _name(self, repository: str, reference: str) -> str:
        return f"{self.domain}/{repository}{'@' if is_digest(reference) else ':'}{reference}"


def _get(place: RepositoryPlace, path: str, headers: Mapping[str, str]) -> Response:
    return place.session.send("GET", place.repository, path, headers=headers, scope=_pull(place.repository))


def _blob_chunks(place: RepositoryPlace, descriptor: Descriptor, received: int) -> Iterator[bytes]:
    """Give the bytes from *received* to ``descriptor.size``, over as many connections as it takes."""
    path = f"{quote(place.repository)}/blobs/{descriptor.digest}"
    attempts = place.session.attempts()
    while True:
        start = received
        try:
            headers = {"Range": f"bytes={start}-{descriptor.size - 1}"} if start else {}
            with _get(place, path, headers) as response:
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


def _pull(repository: str) -> str:
    return f"repository:{repository}:pull"


def _manifest_path(repository: str, reference: str) -> str:
    return f"{quote(repository)}/manifests/{quote(reference, safe=':')}"


def _read_manifest(response: Response, reference: str, name: str) -> Fetched:
    content = response.read(oci.DOCUMENT_LIMIT)
    if content is None:
        raise IntegrityError(f"{name}: the manifest has more than {oci.DOCUMENT_LIMIT} bytes")
    promises = [text for text in (reference, response.header("docker-content-digest") or "") if is_digest(text)]
    for promised in promises:
        actual = oci.digest(content, promised)
        if actual != promised:
            raise IntegrityError(f"{name}: the registry sent other content: {actual} instead of {promised}")
    digest = Digest(promises[0]) if promises else oci.digest(content)  # as who asks for it again will say it
    return Fetched(content, response.header("content-type") or "", digest)


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
