"""Keep the result in the image store under its names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from img_core.kit.assemble import PACKING_PATTERNS, PACKING_PROPERTIES, Packing, assemble, image_metadata
from img_core.kit.image_names import all_names
from img_core.spec.errors import UsageError
from img_core.spec.exporter import Exporter, ExportProgress, Result

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from img_core.kit.assemble import Assembled
    from img_core.spec.host import Host

__all__ = ["ImageExporter"]


class ImageExporter(Exporter):
    """Stores configs, manifests and the index, then lets each name mean the result. A name is set last and atomically."""

    name = "image"
    schema: ClassVar[Mapping[str, Any] | None] = {  # Any: JSON
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "image names, separated by commas; added to those of -t"},
            "push": {"type": "boolean", "description": "push to the registry of each name"},
            "push-by-digest": {"type": "boolean", "description": "push without a tag"},
            "registry.insecure": {"type": "boolean", "description": "allow plain HTTP when pushing"},
            "store": {"type": "boolean", "description": "set the names in the local image store (default)"},
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

    def __init__(self, host: Host, options: Mapping[str, Any]) -> None:
        super().__init__(host, options)
        self._packing = Packing.from_options(options)
        self._names = all_names((), options)
        if options.get("push") or options.get("push-by-digest"):
            raise UsageError(
                "pushing from a build is not yet supported", hint="build with `-t NAME`, then `img push NAME`"
            )

    def export(self, result: Result, progress: ExportProgress) -> Mapping[str, Any]:
        """Store *result* and name it."""
        assembled = assemble(result, self._packing, progress)
        names = list(self._wanted_names(result.names, assembled))
        if self.options.get("store", True):
            for name in names:
                progress.status(f"naming to {name}")
                result.store.tag(name, assembled.top)
        return image_metadata(assembled, names)

    def _wanted_names(self, given: Sequence[str], assembled: Assembled) -> Iterator[str]:
        digest = assembled.top.digest
        names = list(dict.fromkeys([*given, *self._names]))
        yield from names
        if self.options.get("name-canonical"):
            from img_core.kit.reference import Reference

            yield from dict.fromkeys(f"{Reference.parse(name).name}@{digest}" for name in names)
        if not names and (prefix := self.options.get("dangling-name-prefix")):
            yield f"{prefix}@{digest}"
