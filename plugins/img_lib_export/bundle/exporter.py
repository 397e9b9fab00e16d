"""What ``-o type=oci`` and ``-o type=docker`` share; they differ in name, description and in what Docker needs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.files import fs
from img_core.files.output import check_output, is_stdout, open_output
from img_core.images.names import all_names
from img_core.spec.errors import UsageError
from img_core.spec.exporter import Exporter, NamedImage
from img_lib_export.assemble import PACKING_PATTERNS, PACKING_PROPERTIES, Packing, assemble, image_metadata
from img_lib_export.bundle._write import write_directory, write_tar
from img_lib_export.ticker import Ticker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from img_core.spec.exporter import ExportProgress, ImageStore, Result, Writable
    from img_core.spec.host import Host

__all__ = ["BUNDLE_SCHEMA", "BundleExporter"]

#: Any: JSON
BUNDLE_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "dest": {"type": "string", "description": "file or, with tar=false, directory; default: standard output"},
        "tar": {"type": "boolean", "description": "write a tar archive (default) or a directory"},
        "name": {"type": "string", "description": "image names, separated by commas; added to those of -t"},
        **PACKING_PROPERTIES,
    },
    "patternProperties": PACKING_PATTERNS,
    "additionalProperties": False,
}


class BundleExporter(Exporter):
    """Writes an image as one tar archive, which appears whole, or adds it to an image layout in a directory."""

    schema: ClassVar[Mapping[str, Any] | None] = BUNDLE_SCHEMA  # Any: JSON
    saves: ClassVar[bool] = True
    docker: ClassVar[bool]  #: write what ``docker load`` needs

    def __init__(self, host: Host, options: Mapping[str, Any]) -> None:
        super().__init__(host, options)
        self._packing = Packing.from_options(options)
        self.layer_form = self._packing.layer_form
        self._names = all_names((), options)
        self._dest: str | None = options.get("dest")
        self._tar = bool(options.get("tar", True))
        if not self._tar and is_stdout(self._dest):
            raise UsageError(f"invalid output option: output: output directory is required for {self.name} exporter")

    def check(self) -> None:
        """Refuse a terminal, and a directory where a file is wanted or the other way round."""
        if self._tar:
            check_output(self._dest, self.name, hint="add `tar=false` to write the image into a directory")
        elif self._dest and os.path.lexists(self._dest) and not os.path.isdir(self._dest):
            raise UsageError(f"invalid output option: output: `{fs.show(self._dest)}` is not a directory")

    def save(
        self, images: Sequence[NamedImage], store: ImageStore, output: Writable, tick: Callable[[int], None]
    ) -> None:
        """Write one tar archive."""
        write_tar(output, images, store, docker=self.docker, tick=tick)

    def export(self, result: Result, progress: ExportProgress) -> Mapping[str, Any]:
        """Write *result*."""
        self.check()
        if self.docker and result.multi_platform:
            raise UsageError(
                "docker exporter does not currently support exporting manifest lists",
                hint="use `type=oci`, or build for one platform",
            )
        if self.docker and any(image.attestations for image in result.images):
            raise UsageError("docker exporter cannot attach attestations", hint="use `type=oci`, which can")
        assembled = assemble(result, self._packing, progress)
        names = list(dict.fromkeys([*result.names, *self._names]))
        image = NamedImage(
            assembled.top, tuple(names), max(filter(None, (i.created for i in assembled.images)), default=None)
        )
        platform = assembled.images[0].platform if assembled.images else None
        tick = Ticker(progress, "sending tarball" if self._tar else "copying blobs")
        if self._tar:
            with open_output(self._dest) as output:
                write_tar(output, [image], result.store, docker=self.docker, platform=platform, tick=tick)
                tick.finish()
        elif self._dest:
            progress.status("copying files")
            write_directory(self._dest, [image], result.store, docker=self.docker, platform=platform, tick=tick)
        return image_metadata(assembled, names)
