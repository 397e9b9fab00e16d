"""From the name of an image to exact bytes: manifest and config for one platform, wherever the documents come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from img_core.images import oci, platforms
from img_core.spec.errors import IntegrityError, NotFoundError
from img_core.spec.source import PinnedImage
from img_core.spec.text import show
from img_core.spec.values import Descriptor

if TYPE_CHECKING:
    from img_core.spec.values import Digest, Platform

__all__ = ["RepositoryDocuments", "look_up"]

_UNNAMED_LIMIT = 8  # entries without a platform whose configs we look at


class RepositoryDocuments(Protocol):
    """Reads the documents of one repository; everything read by digest is verified. Raises NotFoundError, RegistryError, IntegrityError."""

    def manifest(self, reference: str) -> tuple[bytes, str, Digest]:
        """Return content, media type and digest of the manifest or index that a tag or digest names."""

    def config(self, descriptor: Descriptor) -> bytes:
        """Return an image config."""


def look_up(
    documents: RepositoryDocuments, reference: str, wanted: Platform, *, name: str, repository: str
) -> PinnedImage:
    """Return the image for *wanted* that *reference* (a tag or digest) names; the tag's own choice wins if it is a single image.

    *name* is the whole name of the image, for `PinnedImage.reference` and for messages; *repository* what stands before its tag.
    """
    return _Lookup(documents, name, repository).image(reference, wanted)


class _Lookup:
    """Collects the documents on the way from the reference to the config."""

    def __init__(self, source: RepositoryDocuments, name: str, repository: str) -> None:
        self._source = source
        self._name = name
        self._repository = repository
        self._documents: dict[Digest, bytes] = {}

    def image(self, reference: str, wanted: Platform) -> PinnedImage:
        content, media_type, digest = self._source.manifest(reference)
        parsed = oci.parse_manifest_or_index(content, name=self._name, media_type=media_type)
        self._documents[digest] = content
        top = Descriptor(parsed.media_type, digest, len(content))
        if isinstance(parsed, oci.Index):
            descriptor, manifest, config = self._choose(parsed, wanted, depth=1)
        else:
            descriptor, manifest, config = top, parsed, self._config(parsed)
        oci.check_layers(manifest, config, name=self._entry_name(descriptor))
        chosen = Descriptor(manifest.media_type, descriptor.digest, descriptor.size, config.platform)
        return PinnedImage(self._name, top, chosen, manifest.config, manifest.layers, self._documents)

    def _choose(
        self, index: oci.Index, wanted: Platform, *, depth: int
    ) -> tuple[Descriptor, oci.Manifest, oci.ImageConfig]:
        """Return the image of *index* that suits *wanted* best."""
        entries = [entry for entry in index.manifests if entry.media_type in oci.MANIFEST_TYPES | oci.INDEX_TYPES]
        position = platforms.choose(wanted, [entry.platform for entry in entries])
        if position is not None:
            return self._open(entries[position], wanted, depth=depth)
        # Entries need not name their platform; then only the config knows.
        unnamed = [entry for entry in entries if entry.platform is None]
        for entry in unnamed[:_UNNAMED_LIMIT]:
            try:
                found = self._open(entry, wanted, depth=depth)
            except NotFoundError:
                continue
            if platforms.choose(wanted, [found[2].platform]) is not None:
                return found
        offered = sorted({str(entry.platform) for entry in entries if _is_real(entry.platform)})
        raise NotFoundError(
            f"{self._name}: no match for platform {wanted} in manifest: not found",
            hint=f"it offers {', '.join(offered)}" if offered else None,
        )

    def _open(
        self, entry: Descriptor, wanted: Platform, *, depth: int
    ) -> tuple[Descriptor, oci.Manifest, oci.ImageConfig]:
        content = self._fetch(entry)
        parsed = oci.parse_manifest_or_index(content, name=self._entry_name(entry), media_type=entry.media_type)
        if isinstance(parsed, oci.Manifest):
            return entry, parsed, self._config(parsed)
        if depth >= oci.INDEX_DEPTH:
            raise oci.InvalidDocument(f"{self._name} nests indexes more than {oci.INDEX_DEPTH} deep")
        return self._choose(parsed, wanted, depth=depth + 1)

    def _fetch(self, entry: Descriptor) -> bytes:
        content, _, digest = self._source.manifest(entry.digest)
        if len(content) != entry.size:
            raise IntegrityError(f"{self._entry_name(entry)} has {len(content)} bytes where {entry.size} were promised")
        self._documents[digest] = content
        return content

    def _config(self, manifest: oci.Manifest) -> oci.ImageConfig:
        if not manifest.is_image:
            kind = show(manifest.config.media_type)
            raise oci.InvalidDocument(f"{self._name} is not a container image but `{kind}`")
        digest = manifest.config.digest
        if digest not in self._documents:
            self._documents[digest] = self._source.config(manifest.config)
        return oci.parse_config(self._documents[digest], name=f"the config of {self._name}")

    def _entry_name(self, descriptor: Descriptor) -> str:
        return f"{self._repository}@{descriptor.digest}"


def _is_real(platform: Platform | None) -> bool:
    """Tell whether a platform is one; attestations are stored under ``unknown/unknown``."""
    return platform is not None and platform.os not in {"", "unknown"}
