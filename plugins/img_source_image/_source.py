"""Resolve image references in registries and fetch their layers."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.images import oci, platforms
from img_core.images.digests import is_digest
from img_core.images.lookup import look_up
from img_core.images.reference import Reference
from img_core.spec.errors import IntegrityError, RegistryError
from img_core.spec.source import ImageSource, PinnedImage, SourceContext
from img_core.spec.source_op import IMAGE_SCHEME
from img_core.spec.values import Digest
from img_source_image._layouts import Layouts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from img_core.spec.registry import Registry
    from img_core.spec.source_op import SourceOp
    from img_core.spec.values import Descriptor, Platform

__all__ = ["RegistrySource"]


class RegistrySource(ImageSource):
    """Serves ``docker-image``. Tags are resolved at each `pin`; what was resolved is fetched by digest only."""

    name: ClassVar[str] = IMAGE_SCHEME
    is_remote: ClassVar[bool] = True
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "layouts": {
                "type": "string",
                "description": "directories with blobs of images, which then come from no registry; separated by `:`",
            }
        },
        "additionalProperties": False,
    }

    @classmethod
    def claims(cls, address: str) -> str | None:
        """Claim ``docker-image://REFERENCE``."""
        scheme, separator, reference = address.partition("://")
        return reference if separator and scheme == cls.name else None

    def __init__(self, context: SourceContext, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(context, options)
        self._layouts = Layouts([name for name in str(self.options.get("layouts", "")).split(":") if name])
        self._registry = self._opened(brief=False)
        #: Asks what a known tag means now. Without an answer people who work offline go on with what it meant.
        self._brief = self._opened(brief=True)

    def _opened(self, *, brief: bool) -> Registry:
        registry = self.context.host.registry(insecure=self.context.insecure, brief=brief)
        weakref.finalize(self, registry.close)
        return registry

    def pin(self, op: SourceOp, platform: Platform | None) -> PinnedImage:
        """Resolve a tag or digest to manifest and config; the tag's own choice wins if it names a single image.

        Of what is kept here nothing is fetched: a tag that did not move costs one HEAD request, which registries do not count as a pull.
        """
        reference = Reference.parse(op.reference).with_default_tag()
        documents = _RegistryDocuments(self._registry, reference.name, self._document)
        return look_up(
            documents,
            self._meaning(reference) or reference.digest or reference.tag or "",
            platform or platforms.host_platform(),
            name=str(reference),
            repository=reference.name,
        )

    def _meaning(self, reference: Reference) -> Digest | None:
        """Ask what *reference* means where that is likely to be kept here; None if it has to be fetched anyway.

        A digest is asked for, too: that its content is here does not mean that this repository has it. Raises NotFoundError.
        Not one in a layout, which was made to be used.
        """
        if reference.digest and self._layouts.document(Digest(reference.digest)) is not None:
            return Digest(reference.digest)
        kept = reference.digest and self.context.document(Digest(reference.digest)) is not None
        known = kept or self.context.seen(str(reference))
        if not known and not self.options.get("layouts"):
            return None
        wanted = reference.digest or reference.tag or ""
        try:
            digest = self._brief.resolve(reference.name, wanted)
        except RegistryError as err:
            if known and (err.status is None or err.status == 429 or err.status >= 500):
                raise
            return None  # it answers, but not this question
        if digest and reference.digest and digest != reference.digest:
            return None  # what it says is not verified, and cannot be true
        return digest if digest and self._document(digest) else None

    def _document(self, digest: Digest) -> bytes | None:
        return self.context.document(digest) or self._layouts.document(digest)

    def blob(self, pinned: PinnedImage, descriptor: Descriptor) -> Iterator[bytes]:
        """Give the bytes of a layer; bounded in size here, verified by the caller as the contract says."""
        return self.blob_from(pinned, descriptor, 0)

    def blob_from(self, pinned: PinnedImage, descriptor: Descriptor, start: int) -> Iterator[bytes]:
        """Read, or ask for, the part from *start* on."""
        if (kept := self._layouts.blob(descriptor, start)) is not None:
            return kept
        repository = Reference.parse(pinned.reference).name
        return self._registry.fetch_blob(repository, descriptor, verify=False, start=start)

    def close(self) -> None:
        """Close all connections and end all waiting."""
        self._registry.close()
        self._brief.close()


class _RegistryDocuments:
    """The documents of one repository of a registry."""

    def __init__(self, registry: Registry, repository: str, kept: Callable[[Digest], bytes | None]) -> None:
        self._registry = registry
        self._repository = repository
        self._kept = kept

    def manifest(self, reference: str) -> tuple[bytes, str, Digest]:
        if is_digest(reference) and (kept := self._kept(Digest(reference))):
            return kept, "", Digest(reference)
        return self._registry.fetch_document(self._repository, reference)

    def config(self, descriptor: Descriptor) -> bytes:
        return self._kept(descriptor.digest) or self._fetched(descriptor)

    def _fetched(self, descriptor: Descriptor) -> bytes:
        if descriptor.size > oci.DOCUMENT_LIMIT:
            raise IntegrityError(
                f"{self._repository}@{descriptor.digest}: {descriptor.size} bytes are more than the {oci.DOCUMENT_LIMIT} allowed here"
            )
        return b"".join(self._registry.fetch_blob(self._repository, descriptor))
