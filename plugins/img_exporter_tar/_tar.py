"""Write the root file system as one tar archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from img_core.archives.flatten import add_tree
from img_core.archives.tar.writer import TarWriter
from img_core.files.output import check_output, open_output
from img_core.spec.exporter import Exporter
from img_lib_export.rootfs_options import EPOCH, SPLIT, Overlaps, effective_epoch, top_directory
from img_lib_export.ticker import Ticker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.spec.exporter import ExportProgress, Result
    from img_core.spec.host import Host

__all__ = ["TarExporter"]


class TarExporter(Exporter):
    """Writes owners, modes, hard links, devices and extended attributes as they are, uncompressed, sorted by name."""

    name = "tar"
    needs_layers = False
    schema: ClassVar[Mapping[str, Any] | None] = {  # Any: JSON
        "type": "object",
        "properties": {
            "dest": {"type": "string", "description": "file; default: standard output"},
            "platform-split": SPLIT,
            "source-date-epoch": EPOCH,
        },
        "additionalProperties": False,
    }

    def __init__(self, host: Host, options: Mapping[str, Any]) -> None:
        super().__init__(host, options)
        self._dest: str | None = options.get("dest")

    def check(self) -> None:
        """Refuse a terminal and a directory."""
        check_output(self._dest, self.name, hint="use `type=local` to export into a directory")

    def export(self, result: Result, progress: ExportProgress) -> Mapping[str, Any]:
        """Write the archive."""
        self.check()
        split = self.options.get("platform-split", result.multi_platform)
        epoch = effective_epoch(self.options, result)
        tick, overlaps = Ticker(progress, "sending tarball"), Overlaps()
        with open_output(self._dest) as output:
            writer = TarWriter(output.write)
            for image in result.images:
                overlaps.platform = str(image.platform)
                top = top_directory(image.platform) if split else b""
                with image.tree() as tree:
                    add_tree(tree, writer, top=top, epoch=epoch, admit=None if split else overlaps.admit, tick=tick)
            writer.finish()
            tick(writer.size)
            tick.finish()
        return {}
