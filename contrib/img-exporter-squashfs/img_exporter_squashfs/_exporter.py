"""Write the root file system as one squashfs image, by ``mksquashfs -tar`` (squashfs-tools 4.5 or later).

The program reads an archive that we write, not the tree: so owners are those that the image shall have, also where only one user id is
mapped and the files on the disk are all ours, and times are clamped before it sees them.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.archives.flatten import write_tree
from img_core.files.output import check_output, output_path
from img_core.files.treewalk import look_of, root_of, walk
from img_core.linux.programs import Programs
from img_core.spec import Exporter, Unsupported, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.spec import ExportProgress, Host, Result, Tree

__all__ = ["SquashfsExporter"]

_PROGRAM = "mksquashfs"
_COMPRESSIONS = ("gzip", "lz4", "lzo", "xz", "zstd")
_KIB = 1024
_BLOCK_SIZES = [4 * _KIB << shift for shift in range(9)]  # what the format knows: 4 KiB to 1 MiB
_LATEST = (1 << 32) - 1  # seconds since 1970 that the format can hold
_EVERY = 16 << 20  #: bytes of the archive between two words about it


class SquashfsExporter(Exporter):
    """Writes one squashfs image: read-only, compressed, for `mount -t squashfs`, Apptainer, live systems and firmware."""

    name = "squashfs"
    needs_layers = False
    schema: ClassVar[Mapping[str, Any] | None] = {  # Any: JSON
        "type": "object",
        "properties": {
            "dest": {"type": "string", "description": "file"},
            "compression": {"enum": list(_COMPRESSIONS), "description": "of blocks; default: zstd"},
            "block-size": {"enum": _BLOCK_SIZES, "description": "bytes, a power of two; default: 131072"},
            "source-date-epoch": {
                "type": "integer",
                "minimum": 0,
                "description": "the time of all files, in seconds since 1970; default: SOURCE_DATE_EPOCH of the build, or that of each file",
            },
        },
        "required": ["dest"],
        "additionalProperties": False,
    }

    def __init__(self, host: Host, options: Mapping[str, Any]) -> None:
        super().__init__(host, options)
        self._dest: str = options["dest"]

    @classmethod
    def probe(cls, host: Host) -> None:
        """Look for the program."""
        if shutil.which(_PROGRAM, path=_path(host)) is None:
            raise Unsupported(f"there is no program `{_PROGRAM}`", hint="`sudo apt-get install squashfs-tools`")

    def check(self) -> None:
        """Refuse standard output, which cannot be sought in, and a bad destination."""
        if self._dest in ("", "-"):
            raise UsageError("type=squashfs needs a file: name one with `dest=`")
        check_output(self._dest, self.name)

    def export(self, result: Result, progress: ExportProgress) -> Mapping[str, Any]:
        """Write the image beside its destination, and rename it."""
        if len(result.images) != 1:
            raise UsageError("type=squashfs writes one platform only", hint="build for one `--platform`")
        self.check()
        self.probe(self.host)
        epoch: int | None = self.options.get("source-date-epoch", result.source_date_epoch)
        with result.images[0].tree() as tree, output_path(self._dest) as path:
            self._write(tree, path, epoch, progress)
            size = os.path.getsize(path)
            progress.status("exporting squashfs", current=size, total=size)
        return {"squashfs.size": size}

    def _write(self, tree: Tree, path: str, epoch: int | None, progress: ExportProgress) -> None:
        command = [*self._command(path), *_root(tree)]
        # The file system's own time, and the latest that anything in it has: without it no two exports are equal. mksquashfs 4.5 gives
        # the root of an archive the time of day whatever -root-time says, and this is what ends that, too.
        latest = _newest(tree) if epoch is None else min(epoch, _LATEST)
        environment = {"PATH": _path(self.host), "LC_ALL": "C", "SOURCE_DATE_EPOCH": str(latest)}
        said = 0

        def tell(done: int) -> None:
            nonlocal said
            if done - said >= _EVERY:
                said = done
                progress.status("exporting squashfs", current=done, finished=False)

        programs = Programs(self.host)
        with programs.start(command, environment=environment, directory="/", feeds=True) as running:
            write_tree(tree, running, epoch=epoch, tick=tell)
            running.wait(lambda: progress.status("compressing squashfs", finished=False)).check()

    def _command(self, path: str) -> list[str]:
        options = {
            "-comp": self.options.get("compression", "zstd"),
            "-b": self.options.get("block-size", 128 * _KIB),
        }
        words = [f"{word}" for pair in options.items() for word in pair]
        return [_PROGRAM, "-", os.path.abspath(path), "-tar", "-noappend", "-no-progress", "-quiet", *words]


def _root(tree: Tree) -> list[str]:
    """Return what the archive cannot say: mode and owner of the root itself."""
    look = look_of(root_of(tree.fd), tree.owner(b""))
    return ["-root-mode", f"{look.mode & 0o7777:o}", "-root-uid", f"{look.uid}", "-root-gid", f"{look.gid}"]


def _newest(tree: Tree) -> int:
    """Return the latest time of all that is in *tree*, in seconds since 1970, as the format can hold it."""
    times = (int(entry.info.st_mtime) for entry in walk(tree.fd) if not entry.leaving)
    return max(0, min(max(times, default=0), _LATEST))


def _path(host: Host) -> str:
    return host.environment.get("PATH") or os.defpath
