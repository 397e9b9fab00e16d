"""The backend of a registry: a tag of a repository, and the tags of segments beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.images import oci
from img_core.images.reference import Reference
from img_core.spec.cache import CacheContext, CacheLoad, CacheRecord, CacheReport
from img_core.spec.errors import IntegrityError, NotFoundError, RegistryError, UsageError
from img_lib_cache.backend import DocumentCache
from img_lib_cache.options import schema
from img_lib_cache.places import Place

if TYPE_CHECKING:
    from img_core.spec.exporter import ExportProgress
    from img_core.spec.registry import Registries, Registry
    from img_core.spec.values import Descriptor, Digest

__all__ = ["RegistryCache"]


class RegistryCache(DocumentCache):
    """Keeps records under the image name ``ref``; finds them there, also in an image that carries them."""

    name = "registry"
    schema: ClassVar[Mapping[str, Any]] = {  # Any: JSON Schema
        **schema(
            {
                "ref": {"type": "string", "description": "image name of the cache, e.g. registry.example/app:cache"},
                "registry.insecure": {
                    "type": "boolean",
                    "description": "allow plain HTTP and unverified TLS for this registry",
                },
            }
        ),
        "required": ["ref"],
    }
    own_options: ClassVar[Mapping[str, bool]] = {}
    sends_early: ClassVar[bool] = True

    def __init__(self, context: CacheContext, options: Mapping[str, Any]) -> None:  # Any: JSON
        super().__init__(context, options)
        text = str(options.get("ref") or "")
        if not text:
            raise UsageError("a registry cache needs `ref`", hint="e.g. `ref=registry.example/app:cache`")
        self._reference = Reference.parse(text, prefix=f"invalid `ref` of a cache: `{text}`: ").with_default_tag()
        self.repository = self._reference.name
        self.location = f"{self.name} {self.repository}"  # tags of one repository share its blobs

    @property
    def tag(self) -> str:
        """The tag, or the digest of one document."""
        return self._reference.digest or self._reference.tag or ""

    def check(self, *, export: bool) -> None:
        """Refuse to write to a digest."""
        super().check(export=export)
        if export and self._reference.digest:
            raise UsageError(f"a cache cannot be saved under the digest in `{self._reference}`", hint="give it a tag")

    def load(self) -> CacheLoad:
        """Read what is there, without much patience: a build can do without."""
        with self._repository.briefly():
            return super().load()

    def fetch(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        """Fetch a blob, and remember where it is: a push beside it can mount it."""
        yield from super().fetch(descriptor, start)
        self.context.store.remember_origins([descriptor.digest], self.repository)

    def send(self, descriptor: Descriptor) -> None:
        """Send a blob, and remember where it is."""
        super().send(descriptor)
        if self.place.holds(descriptor):
            self.context.store.remember_origins([descriptor.digest], self.repository)

    def save(self, records: Sequence[CacheRecord], progress: ExportProgress) -> CacheReport:
        """Save, and remember which blobs are here: a push beside them can mount them."""
        report = super().save(records, progress)
        self.context.store.remember_origins(self._repository.known, self.repository)
        return report

    @cached_property
    def _repository(self) -> _Repository:
        insecure = set(self.context.insecure)
        if self.options.get("registry.insecure"):
            insecure.add(self._reference.domain)
        return _Repository(self._reference, self.context.registries, insecure)

    def open_place(self) -> Place:
        """Return the repository."""
        return self._repository


class _Repository(Place):
    """One repository. Connections are made with the first request."""

    def __init__(self, reference: Reference, registries: Registries, insecure: Iterable[str]) -> None:
        self.title = reference.familiar()
        self._repository = reference.name
        self._registries = registries
        self._insecure = tuple(insecure)
        self.known: set[Digest] = set()  #: blobs that a manifest there names, or that were sent
        self._brief: Registry | None = None

    @cached_property
    def _patient(self) -> Registry:
        return self._registries(insecure=self._insecure)

    @property
    def _registry(self) -> Registry:
        return self._brief or self._patient

    @contextmanager
    def briefly(self) -> Iterator[None]:
        """In the block nobody waits long for an answer."""
        with self._registries(insecure=self._insecure, brief=True) as self._brief:
            try:
                yield
            finally:
                self._brief = None

    def close(self) -> None:
        """End all connections and all waiting."""
        if self._brief is not None:
            self._brief.close()
        if "_patient" in self.__dict__:
            self._patient.close()

    def read(self, tag: str) -> bytes:
        """Fetch a manifest."""
        try:
            return self._registry.fetch_document(self._repository, tag).content
        except RegistryError as err:
            if err.status != 500:
                raise
            # What a registry keeps of it is damaged, and asking again did not help: nobody can read it, and it may be replaced.
            raise IntegrityError(err.message) from err

    def document(self, digest: str) -> bytes:
        """Fetch a manifest."""
        return self.read(digest)

    def tags(self, prefix: str) -> list[str]:
        """List all tags: registries cannot choose."""
        try:
            return self._registry.tags(self._repository)
        except NotFoundError:
            return []

    def fetch(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        """Fetch a blob."""
        return self._registry.fetch_blob(self._repository, descriptor, start=start, verify=False)

    def note(self, digests: Iterable[Digest]) -> None:
        """Blobs that a manifest names need no look."""
        self.known.update(digests)

    def holds(self, descriptor: Descriptor) -> bool:
        """Tell what was noted or sent."""
        return descriptor.digest in self.known

    def add(
        self, descriptor: Descriptor, read: Callable[[int], Iterable[bytes]], *, origins: Sequence[str] = ()
    ) -> None:
        """Send a blob, unless it is there or can be mounted from another repository of the registry."""
        domain = self._repository.partition("/")[0] + "/"
        mount = next((name for name in origins if name.startswith(domain) and name != self._repository), None)
        self._registry.upload(self._repository, descriptor, read, mount_from=mount)
        self.known.add(descriptor.digest)

    def publish(self, tag: str, manifest: bytes) -> Digest:
        """Put the manifest."""
        return self._registry.put_document(self._repository, tag, manifest, oci.OCI_MANIFEST)

    def remove(self, tag: str) -> None:
        """Delete a manifest by its digest."""
        try:
            self._registry.delete_document(self._repository, tag)
        except NotFoundError:
            pass
