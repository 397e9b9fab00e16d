"""Resolve image references in registries and fetch their layers."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, ClassVar

from img_core.kit import oci, platforms
from img_core.kit.reference import Reference
from img_core.kit.registry import Clients
from img_core.kit.text import show
from img_core.spec.errors import IntegrityError, NotFoundError
from img_core.spec.source import ImageSource, PinnedImage, SourceContext
from img_core.spec.values import Descriptor, Digest, Platform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.kit.registry import RegistryClient
    from img_core.spec.graph import SourceOp

__all__ = ["RegistrySource"]

_INDEX_DEPTH = 3  # an index may list indexes; nobody needs more
_UNNAMED_LIMIT = 8  # entries without a platform whose configs we look at


class RegistrySource(ImageSource):
    """Serves ``docker-image``. Tags are resolved at each `pin`; what was resolved is fetched by digest only."""

    name: ClassVar[str] = "docker-image"

    def __init__(self, context: SourceContext) -> None:
        super().__init__(context)
        self._clients = Clients(
            credentials=context.credentials, insecure=context.insecure, environment=context.host.environment
        )
        weakref.finalize(self, self._clients.close)

    def pin(self, op: SourceOp, platform: Platform | None) -> PinnedImage:
        """Resolve a tag or digest to manifest and config; the tag's own choice wins if it names a single image."""
        reference = Reference.parse(op.reference).with_default_tag()
        lookup = _Lookup(self._clients.get(reference.domain), reference)
        return lookup.image(platform or platforms.host_platform())

    def blob(self, pinned: PinnedImage, descriptor: Descriptor) -> Iterator[bytes]:
        """Give the bytes of a layer; bounded in size here, verified by the caller as the contract says."""
        reference = Reference.parse(pinned.reference)
        return self._clients.get(reference.domain).blob(reference.path, descriptor, verify=False)

    def close(self) -> None:
        """Close all connections and end all waiting."""
        self._clients.close()


class _Lookup:
    """One `pin`: collects the documents on the way from the reference to the config."""

    def __init__(self, client: RegistryClient, reference: Reference) -> None:
        self._client = client
        self._reference = reference
        self._documents: dict[Digest, bytes] = {}

    def image(self, wanted: Platform) -> PinnedImage:
        reference = self._reference
        content, media_type, digest = self._client.manifest(reference.path, reference.digest or reference.tag or "")
        parsed = oci.parse_manifest_or_index(content, name=str(reference), media_type=media_type)
        self._documents[digest] = content
        top = Descriptor(parsed.media_type, digest, len(content))
        if isinstance(parsed, oci.Index):
            descriptor, manifest, config = self._choose(parsed, wanted, depth=1)
        else:
            descriptor, manifest, config = top, parsed, self._config(parsed)
        oci.check_layers(manifest, config, name=self._name(descriptor))
        chosen = Descriptor(manifest.media_type, descriptor.digest, descriptor.size, config.platform)
        return PinnedImage(str(reference), top, chosen, manifest.config, manifest.layers, self._documents)

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
            f"{self._reference}: no match for platform {wanted} in manifest: not found",
            hint=f"it offers {', '.join(offered)}" if offered else None,
        )

    def _open(
        self, entry: Descriptor, wanted: Platform, *, depth: int
    ) -> tuple[Descriptor, oci.Manifest, oci.ImageConfig]:
        content = self._fetch(entry)
        parsed = oci.parse_manifest_or_index(content, name=self._name(entry), media_type=entry.media_type)
        if isinstance(parsed, oci.Manifest):
            return entry, parsed, self._config(parsed)
        if depth >= _INDEX_DEPTH:
            raise oci.InvalidDocument(f"{self._reference} nests indexes more than {_INDEX_DEPTH} deep")
        return self._choose(parsed, wanted, depth=depth + 1)

    def _fetch(self, entry: Descriptor) -> bytes:
        content, _, digest = self._client.manifest(self._reference.path, entry.digest)
        if len(content) != entry.size:
            raise IntegrityError(f"{self._name(entry)} has {len(content)} bytes where {entry.size} were promised")
        self._documents[digest] = content
        return content

    def _config(self, manifest: oci.Manifest) -> oci.ImageConfig:
        if not manifest.is_image:
            kind = show(manifest.config.media_type)
            raise oci.InvalidDocument(f"{self._reference} is not a container image but `{kind}`")
        digest = manifest.config.digest
        if digest not in self._documents:
            self._documents[digest] = self._client.small_blob(self._reference.path, manifest.config)
        return oci.parse_config(self._documents[digest], name=f"the config of {self._reference}")

    def _name(self, descriptor: Descriptor) -> str:
        return f"{self._reference.name}@{descriptor.digest}"


def _is_real(platform: Platform | None) -> bool:
    """Tell whether a platform is one; attestations are stored under ``unknown/unknown``."""
    return platform is not None and platform.os not in {"", "unknown"}
