"""Write the root file system into a directory of the caller."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.files import fs
from img_core.files.output import destination_errors
from img_core.files.vital import check_not_vital
from img_core.spec.errors import UsageError
from img_core.spec.exporter import Exporter
from img_exporter_local._treecopy import CopyPolicy, copy_tree, merge
from img_lib_export.rootfs_options import EPOCH, SPLIT, Overlaps, effective_epoch, top_directory
from img_lib_export.ticker import Ticker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from img_core.spec.exporter import ExportProgress, Result
    from img_core.spec.host import Host
    from img_exporter_local._treecopy import Copied

__all__ = ["LocalExporter"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalExporter(Exporter):
    """Copies all files first, then puts them into place.

    A destination that does not exist appears at once, by one rename. Into an existing directory the new entries are moved one
    by one: each of them is old or new at any moment, other content stays (with ``mode=delete`` it goes). All files belong to the caller,
    so setuid bits, owners and capabilities are dropped; devices and sockets are left out with a warning.
    """

    name = "local"
    needs_layers = False
    schema: ClassVar[Mapping[str, Any] | None] = {  # Any: JSON
        "type": "object",
        "properties": {
            "dest": {"type": "string", "description": "directory; made if it does not exist"},
            "mode": {
                "enum": ["copy", "delete"],
                "description": "keep what else is in the directory (default), or delete it",
            },
            "platform-split": SPLIT,
            "source-date-epoch": EPOCH,
        },
        "additionalProperties": False,
    }

    def __init__(self, host: Host, options: Mapping[str, Any]) -> None:
        super().__init__(host, options)
        self._dest: str = options.get("dest") or ""
        if not self._dest:
            raise UsageError("invalid output option: output: output directory is required for local exporter")

    def check(self) -> None:
        """Refuse a destination that is something else than a directory, or one whose content nobody means to delete."""
        if os.path.lexists(self._dest) and not os.path.isdir(self._dest):
            raise UsageError(f"invalid output option: output: `{fs.show(self._dest)}` is not a directory")
        if self.options.get("mode") == "delete":
            check_not_vital(self._dest, self.host.state_directory, self.host.environment)

    def export(self, result: Result, progress: ExportProgress) -> Mapping[str, Any]:
        """Copy the files, then publish them."""
        self.check()
        # The user may name a symlink; whatever is in the directory is not followed.
        final = os.path.realpath(self._dest)
        with contextlib.ExitStack() as made:
            with destination_errors(self._dest):
                exists = os.path.isdir(final)
                parent = final if exists else made.enter_context(_parents(os.path.dirname(final)))
                stage = made.enter_context(_staging(parent))
            self._fill(stage, result, progress)  # it reads, too: whose error it is, it says itself
            with destination_errors(self._dest):
                if exists:
                    self._merge(stage, final)
                else:
                    fs.rename(stage, final)
        return {}

    def _fill(self, stage: str, result: Result, progress: ExportProgress) -> None:
        split = self.options.get("platform-split", result.multi_platform)
        policy = CopyPolicy(epoch=effective_epoch(self.options, result))
        tick, overlaps = Ticker(progress, "copying files"), Overlaps()
        for image in result.images:
            overlaps.platform = str(image.platform)
            with image.tree() as tree, _target(stage, top_directory(image.platform) if split else b"") as target:
                copied = copy_tree(tree, target, policy, admit=None if split else overlaps.admit, tick=tick)
            _warn(copied, progress)
        tick.finish()

    def _merge(self, stage: str, final: str) -> None:
        new, old = os.open(stage, _DIRECTORY), os.open(final, _DIRECTORY)
        try:
            merge(new, old, delete=self.options.get("mode") == "delete", spare=os.fsencode(os.path.basename(stage)))
        finally:
            os.close(new)
            os.close(old)


@contextlib.contextmanager
def _staging(parent: str) -> Iterator[str]:
    """Give a new directory in *parent*; what is left of it at the end is removed."""
    path = os.path.join(parent, ".img-" + os.urandom(8).hex())
    try:
        fs.mkdir(path, 0o700)  # in here: a signal may come when it is made
        yield path
    finally:
        if os.path.lexists(path):  # it was not renamed
            with destination_errors(path):
                fs.remove_tree(path)


@contextlib.contextmanager
def _parents(directory: str) -> Iterator[str]:
    """Make *directory* and its parents; on failure remove those that were made."""
    made: list[str] = []
    missing = directory
    while not os.path.isdir(missing):
        made.append(missing)
        missing = os.path.dirname(missing)
    done: list[str] = []
    try:
        for path in reversed(made):
            fs.mkdir(path, 0o700)
            done.append(path)
        yield directory
    except BaseException:
        for path in reversed(done):
            with contextlib.suppress(OSError):  # somebody else uses it now
                os.rmdir(path)
        raise


@contextlib.contextmanager
def _target(stage: str, top: bytes) -> Iterator[int]:
    """Open the directory that gets one image: the stage itself, or *top* in it."""
    path = os.fsencode(stage)
    with destination_errors(stage):
        if top:
            path = os.path.join(path, top)
            fs.mkdir(path, 0o755)
        fd = os.open(path, _DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def _warn(copied: Copied, progress: ExportProgress) -> None:
    if copied.skipped_count:
        names = ", ".join(f"`{fs.show(name)}`" for name in copied.skipped[:3])
        more = f" and {copied.skipped_count - 3} more" if copied.skipped_count > 3 else ""
        progress.status(f"warning: left out devices and sockets: {names}{more}")
