"""Write one line for each file of an image."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.files.output import check_output, open_output
from img_core.files.treewalk import look_of, walk
from img_core.spec import Exporter, UsageError
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from img_core.files.treewalk import Entry
    from img_core.spec import ExportProgress, Host, Result, Tree

__all__ = ["ListingExporter"]


class ListingExporter(Exporter):
    """Writes a list of all files: type and permissions, owner, size, path."""

    name = "example"
    needs_layers = False  # the files are enough; nobody has to compress layers for us
    schema: ClassVar[Mapping[str, Any] | None] = {
        "type": "object",
        "properties": {
            "dest": {"type": "string", "description": "file; default: standard output"},
            "directories": {"type": "boolean", "description": "list directories, too (default)"},
        },
        "additionalProperties": False,
    }

    def __init__(self, host: Host, options: Mapping[str, Any]) -> None:
        """Take the options, already typed by `schema`. Say here what a schema cannot say; do no I/O."""
        super().__init__(host, options)
        self._dest: str | None = options.get("dest")
        self._directories: bool = options.get("directories", True)

    def check(self) -> None:
        """Refuse a bad destination before anything is built."""
        check_output(self._dest, self.name)

    def export(self, result: Result, progress: ExportProgress) -> Mapping[str, Any]:
        """Write the list. `open_output` makes it appear complete or not at all."""
        if len(result.images) != 1:
            raise UsageError("type=example lists one platform only", hint="build for one `--platform`")
        count = 0
        with result.images[0].tree() as tree, open_output(self._dest) as output:
            for line in self._lines(tree):
                output.write(line.encode() + b"\n")
                count += 1
            # Inside the block: `status` raises when the user cancels, and then nothing must have appeared.
            progress.status(f"listed {count} files")
        return {"example.files": count}

    def _lines(self, tree: Tree) -> Iterator[str]:
        for entry in walk(tree.fd):
            if entry.leaving or (entry.info is not None and stat.S_ISDIR(entry.info.st_mode) and not self._directories):
                continue
            yield _line(tree, entry)


def _line(tree: Tree, entry: Entry) -> str:
    info = entry.info
    # Where one user owns all files, lstat(2) tells neither whose they should be nor always their mode.
    mode, uid, gid = look_of(entry, tree.owner(entry.path))
    size = info.st_size if stat.S_ISREG(info.st_mode) else 0
    # Names are bytes and may be hostile: `show` makes one printable line of them.
    return f"{stat.filemode(mode)} {uid}:{gid} {size:>10} /{show(entry.path, limit=4096)}"
