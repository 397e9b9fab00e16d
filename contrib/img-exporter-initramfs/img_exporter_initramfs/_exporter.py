"""Write the root file system as an initial RAM file system, with which a kernel boots straight into the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from img_core.archives.codecs import compressor
from img_core.files.output import check_output, open_output
from img_core.spec import Exporter, UsageError

from img_exporter_initramfs._cpio import CpioWriter, write_archive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.spec import ExportProgress, Host, Result

__all__ = ["InitramfsExporter"]

_EVERY = 16 << 20  #: bytes of the archive between two words about it


class InitramfsExporter(Exporter):
    """Writes an initramfs (cpio, compressed): for network boot, microVMs and kernels under test."""

    name = "initramfs"
    needs_layers = False
    schema: ClassVar[Mapping[str, Any] | None] = {  # Any: JSON
        "type": "object",
        "properties": {
            "dest": {"type": "string", "description": "file; default: standard output"},
            "compression": {"enum": ["gzip", "zstd", "uncompressed"], "description": "default: gzip, which every kernel reads"},
            "compression-level": {"type": "integer", "minimum": 0, "maximum": 22, "description": "gzip 0-9, zstd 0-22"},
            "init": {"type": "string", "minLength": 1, "description": "what /init is a link to, if the image has none; default: /sbin/init"},
            "source-date-epoch": {
                "type": "integer",
                "minimum": 0,
                "description": "the time of all files, in seconds since 1970; default: SOURCE_DATE_EPOCH of the build, or that of each file",
            },
        },
        "additionalProperties": False,
    }  # fmt: skip

    def __init__(self, host: Host, options: Mapping[str, Any]) -> None:
        super().__init__(host, options)
        self._dest: str | None = options.get("dest")
        self._compression: str = options.get("compression", "gzip")
        self._level: int | None = options.get("compression-level")
        if self._compression == "gzip" and self._level is not None and self._level > 9:
            raise UsageError(f"compression level {self._level} is not between 0 and 9 for gzip")

    def check(self) -> None:
        """Refuse a bad destination before anything is built."""
        check_output(self._dest, self.name)

    def export(self, result: Result, progress: ExportProgress) -> Mapping[str, Any]:
        """Write the archive. `open_output` makes it appear complete or not at all."""
        if len(result.images) != 1:
            raise UsageError("type=initramfs writes one platform only", hint="build for one `--platform`")
        self.check()
        epoch: int | None = self.options.get("source-date-epoch", result.source_date_epoch)
        packer, said = compressor(self._compression, self._level), 0

        def tell(done: int) -> None:
            nonlocal said
            if done - said >= _EVERY:
                said = done
                progress.status("exporting initramfs", current=done, finished=False)

        with result.images[0].tree() as tree, open_output(self._dest) as output:
            writer = CpioWriter(lambda data: output.write(packer.compress(data)))
            init = self.options.get("init", "/sbin/init")
            lost = write_archive(tree, writer, epoch=epoch, init=init, tick=tell)
            output.write(packer.flush())
            if lost:
                progress.status(
                    f"left out the extended attributes of {lost} files, for which an initramfs has no place"
                )
            progress.status("exporting initramfs", current=writer.size, total=writer.size)
        return {"initramfs.size": writer.size}
