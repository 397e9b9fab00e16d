"""Push a whole image: its blobs at the same time, then its manifests, each after what it names, and the name last.

What the store lacks (layers that no step needed, other platforms of a pulled index) is copied from the registry that it came from,
without touching the disk.
"""

from __future__ import annotations

from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING, Protocol

from img_core.images import oci
from img_core.images.origins import from_origins
from img_core.linux.parallel import run_together
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import ImgError, IntegrityError, NotFoundError, RegistryError
from img_core.spec.registry import Uploaded
from img_core.spec.values import Descriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import BinaryIO

    from img_core.images.reference import Reference
    from img_core.spec.progress import TransferStatus
    from img_core.spec.registry import Registry
    from img_core.spec.values import Digest

__all__ = ["PushContents", "Pushed", "push_image"]

_WORKERS = 4  # blobs on the way at the same time
_CHUNK = 256 * 1024
_OUTCOMES = {
    Uploaded.SENT: "done",
    Uploaded.MOUNTED: "mounted",
    Uploaded.EXISTED: "exists",
}  # of spec.progress.StepStatus


class PushContents(Protocol):
    """What a push reads: an image store, or a part of one."""

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob for reading. Raises NotFoundError."""

    def read(self, digest: Digest) -> bytes:
        """Return a small document, verified against its digest. Raises NotFoundError."""

    def chunks(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Give a blob's bytes. Raises IntegrityError at the end when they are damaged."""

    def origins(self, digest: Digest) -> Sequence[str]:
        """Return the repositories (``domain/path``) that are known to have the blob, the best first."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did: *digest* is what the name means now, the numbers count blobs. *blobs* are all that the repository has now."""

    digest: Digest
    sent: int
    mounted: int
    existed: int
    blobs: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class _Manifest:
    descriptor: Descriptor
    content: bytes = field(repr=False)


def push_image(
    reference: Reference,
    top: Descriptor,
    contents: PushContents,
    registry: Registry,
    *,
    status: TransferStatus = lambda *_news: None,
) -> Pushed:
    """Let *reference* in its registry mean *top* (a manifest or an index), byte for byte as it is in *contents*.

    *status* hears of each blob; an error that it raises ends the push. Without tag and digest in *reference* the image is pushed under its
    digest only. Raises RegistryError, CredentialsError, IntegrityError, NotFoundError.
    """
    push = _Push(reference, contents, registry, status)
    push.collect(top, depth=0)
    run_together(push.uploads(), workers=_WORKERS, stop=registry.close)
    push.put_manifests()
    ways = list(push.ways.values())
    sent, mounted, existed = (ways.count(way) for way in (Uploaded.SENT, Uploaded.MOUNTED, Uploaded.EXISTED))
    return Pushed(top.digest, sent, mounted, existed, tuple(push.ways))


class _Push:
    """One push; first collects what there is to do, without sending anything."""

    def __init__(
        self, reference: Reference, contents: PushContents, registry: Registry, status: TransferStatus
    ) -> None:
        self._reference = reference
        self._contents = contents
        self._status = status
        self._registry = registry
        self._manifests: dict[Digest, _Manifest] = {}  # children first
        self._blobs: dict[Digest, Descriptor] = {}
        self._holders: dict[Digest, tuple[str, ...]] = {}  #: repositories of the manifest that names a blob
        self.ways: dict[Digest, Uploaded] = {}

    def collect(self, descriptor: Descriptor, *, depth: int, holders: Sequence[str] = ()) -> None:
        """Note everything that *descriptor* (a manifest or an index) needs, and then itself.

        *holders* are the repositories that had what names it: they have it, too.
        """
        if descriptor.digest in self._manifests:
            return
        origins = tuple(dict.fromkeys([*self._contents.origins(descriptor.digest), *holders]))
        content = self._document(descriptor, origins)
        parsed = oci.parse_manifest_or_index(content, name=descriptor.digest, media_type=descriptor.media_type)
        if isinstance(parsed, oci.Manifest):
            for blob in (parsed.config, *parsed.layers):
                self._blobs.setdefault(blob.digest, blob)
                self._holders[blob.digest] = (*self._holders.get(blob.digest, ()), *origins)
        elif depth >= oci.INDEX_DEPTH:
            raise oci.InvalidDocument(f"{self._reference} nests indexes more than {oci.INDEX_DEPTH} deep")
        else:
            for child in parsed.manifests:
                self.collect(child, depth=depth + 1, holders=origins)
        self._manifests[descriptor.digest] = _Manifest(descriptor, content)

    def uploads(self) -> Iterator[Callable[[], None]]:
        """Give one task per blob; the largest first, so that none is left alone at the end."""
        for blob in sorted(self._blobs.values(), key=lambda item: -item.size):
            yield partial(self._upload, blob)

    def put_manifests(self) -> None:
        """Send the manifests; the last one gets the name."""
        *children, top = self._manifests.values()
        for manifest in children:
            self._put(manifest, manifest.descriptor.digest)
        self._put(top, self._reference.tag or top.descriptor.digest)

    def _put(self, manifest: _Manifest, name: str) -> None:
        parsed = oci.parse_manifest_or_index(
            manifest.content, name=manifest.descriptor.digest, media_type=manifest.descriptor.media_type
        )
        self._registry.put_document(self._reference.name, name, manifest.content, parsed.media_type)

    def _document(self, descriptor: Descriptor, origins: Sequence[str]) -> bytes:
        try:
            return self._contents.read(descriptor.digest)
        except NotFoundError:
            if not origins:
                raise NotFoundError(
                    f"{self._reference.name}@{descriptor.digest}: not all platforms of the image are kept here",
                    hint="push one of them with `--platform`, or pull the image again with `--all-platforms`",
                ) from None
        return self._from_any(origins, lambda origin: self._registry.fetch_document(origin, descriptor.digest).content)

    def _from_any(self, origins: Sequence[str], get: Callable[[str], bytes]) -> bytes:
        """Return what the first of *origins* that has it gives."""
        failure: ImgError | None = None
        for origin in origins:
            try:
                return get(origin)
            except (NotFoundError, IntegrityError) as err:
                failure = failure or err
        assert failure is not None
        raise failure

    def _upload(self, blob: Descriptor) -> None:
        origins = dict.fromkeys([*self._contents.origins(blob.digest), *self._holders.get(blob.digest, ())])
        home = f"{self._reference.domain}/"
        neighbours = sorted(
            (name for name in origins if name.startswith(home)), key=lambda name: name != self._reference.name
        )
        try:
            with self._contents.open(blob.digest):
                read = partial(self._stored, blob)
        except NotFoundError:
            if oci.is_foreign_layer(blob.media_type):
                return  # not to be distributed: the registry does not expect it either
            if not origins:
                raise
            read = partial(self._copied, blob, list(origins))
        try:
            way = self._registry.upload(
                self._reference.name, blob, read, mount_from=neighbours[0] if neighbours else None
            )
        except RegistryError as err:
            if err.status == 400 and read.func == self._stored:
                self._verify(blob)  # the registry does not like the digest: the disk may be to blame
            raise
        self.ways[blob.digest] = way
        self._status(blob.digest, blob.size, blob.size, _OUTCOMES[way])

    def _stored(self, blob: Descriptor, offset: int) -> Iterator[bytes]:
        done = offset
        with self._contents.open(blob.digest) as file:
            file.seek(offset)
            while chunk := file.read(_CHUNK):
                done += len(chunk)
                self._status(blob.digest, min(done, blob.size), blob.size)
                yield chunk

    def _verify(self, blob: Descriptor) -> None:
        for _chunk in self._contents.chunks(blob):
            pass

    def _copied(self, blob: Descriptor, origins: Sequence[str], offset: int) -> Iterator[bytes]:
        """Give the bytes of a blob of other registries; the target verifies the digest."""

        def read(origin: str, start: int) -> Iterator[bytes]:
            return self._registry.fetch_blob(origin, blob, verify=False, start=start)

        done = offset
        for chunk in from_origins(str(self._reference), blob.digest, origins, read, offset):
            done += len(chunk)
            self._status(blob.digest, done, blob.size)
            yield chunk
