"""Keep the result in the image store under its names, push it to their registries, or both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from img_core.images.names import all_names
from img_core.spec.errors import UsageError
from img_core.spec.exporter import Exporter, ExportProgress, Result
from img_lib_export.assemble import PACKING_PATTERNS, PACKING_PROPERTIES, Packing, assemble, image_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from img_core.spec.host import Host
    from img_core.spec.registry import Registry
    from img_lib_export.assemble import Assembled

__all__ = ["ImageExporter", "RegistryExporter"]


class ImageExporter(Exporter):
    """Stores configs, manifests and the index, then lets each name mean the result. A name is set last and atomically.

    Without any name the image is kept under its digest alone.
    With ``push`` every name is pushed, before any is set here.
    """

    name = "image"
    names_image = True
    schema: ClassVar[Mapping[str, Any] | None] = {  # Any: JSON
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "image names, separated by commas; added to those of -t"},
            "push": {"type": "boolean", "description": "push to the registry of each name"},
            "push-by-digest": {"type": "boolean", "description": "push without a tag"},
            "registry.insecure": {"type": "boolean", "description": "allow plain HTTP and unverified TLS when pushing"},
            "store": {"type": "boolean", "description": "set the names in the local image store (default)"},
            "store-allow-incomplete": {
                "type": "boolean",
                "description": "leave layers of base images that nothing needed in their registries (default)",
            },
            "unpack": {"type": "boolean", "description": "accepted; layers are unpacked when something needs them"},
            "name-canonical": {"type": "boolean", "description": "add a name with the digest"},
            "dangling-name-prefix": {
                "type": "string",
                "description": "name an image that has no other name PREFIX@DIGEST",
            },
            **PACKING_PROPERTIES,
        },
        "patternProperties": PACKING_PATTERNS,
        "additionalProperties": False,
    }

    _push_by_default: ClassVar[bool] = False

    def __init__(self, host: Host, options: Mapping[str, Any]) -> None:
        super().__init__(host, options)
        self._packing = Packing.from_options(options)
        self.layer_form = self._packing.layer_form
        self._names = all_names((), options)
        self._stores = bool(options.get("store", not self._push_by_default))
        # Base layers can be copied from registry to registry, or fetched later; another form of them needs the bytes here.
        whole = self._stores and not options.get("store-allow-incomplete", True)
        self.needs_base_blobs = whole or bool(options.get("force-compression"))
        self._by_digest = bool(options.get("push-by-digest"))
        self._pushes = bool(options.get("push", self._push_by_default)) or self._by_digest
        self.mounts_layers = self._pushes and not self.needs_base_blobs and not self._packing.rewrite_times

    def check(self) -> None:
        """See that a push has a registry driver to go through."""
        if self._pushes:
            self._registry().close()

    def export(self, result: Result, progress: ExportProgress) -> Mapping[str, Any]:
        """Store *result*, push it and name it."""
        if self._pushes and not (result.names or self._names):
            raise UsageError("a push needs to know where to", hint="name the image with `-t NAME` or `name=NAME`")
        assembled = assemble(result, self._packing, progress)
        names = list(self._wanted_names(result.names, assembled))
        if self._pushes:
            self._push(names, assembled, result, progress)
        if self._stores:
            for name in names:
                progress.status(f"naming to {name}")
                result.store.tag(name, assembled.top)
            if not names:
                result.store.keep(assembled.top)
        return image_metadata(assembled, names)

    def _push(self, names: Sequence[str], assembled: Assembled, result: Result, progress: ExportProgress) -> None:
        from img_core.images.push import push_image  # only where something is pushed
        from img_core.images.reference import Reference

        def status(digest: str, current: int, total: int, outcome: str = "") -> None:
            progress.status(f"pushing {digest}", current=current, total=total, finished=bool(outcome), outcome=outcome)

        for name in names:
            reference = Reference.parse(name)
            if self._by_digest:
                reference = Reference(reference.domain, reference.path)
            progress.status(f"pushing manifest for {reference}@{assembled.top.digest}")
            with self._registry() as registry:
                pushed = push_image(reference, assembled.top, result.store, registry, status=status)
            result.store.remember_origins(pushed.blobs, reference.name)

    def _registry(self) -> Registry:
        return self.host.registry(insecure={"*"} if self.options.get("registry.insecure") else ())

    def _wanted_names(self, given: Sequence[str], assembled: Assembled) -> Iterator[str]:
        digest = assembled.top.digest
        names = list(dict.fromkeys([*given, *self._names]))
        yield from names
        if self.options.get("name-canonical"):
            from img_core.images.reference import Reference

            yield from dict.fromkeys(f"{Reference.parse(name).name}@{digest}" for name in names)
        if not names and (prefix := self.options.get("dangling-name-prefix")):
            yield f"{prefix}@{digest}"


class RegistryExporter(ImageExporter):
    """``type=registry``: only pushes; ``store=true`` sets the names here, too."""

    name = "registry"
    _push_by_default: ClassVar[bool] = True
