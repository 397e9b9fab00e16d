"""Snapshots that are whole copies, for drivers on file systems that copy cheaply: `native` is nothing but that.

A snapshot is ``<directory>/fs`` (a whole root file system), ``<directory>/index`` (which directories were copied, and when) and
``<directory>/owners`` with the owner records of its own step, if there are any. Only the topmost parent is looked at.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from img_lib_layers.clone import clone_tree
from img_lib_layers.copy_changes import CopyChanges, read_index, write_index
from img_lib_layers.snapshots import FILES, RECORDS, DirectoryRoot, DirectorySnapshotter, open_directory, read_only
from img_lib_layers.times import shows_memory_writes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from img_core.spec.host import Host
    from img_core.spec.snapshotter import Applied, Changes, LayerStream, Rootfs

__all__ = ["CopySnapshotter"]

_INDEX = "index"


class CopySnapshotter(DirectorySnapshotter):
    """Snapshots that are whole trees. A subclass has a name, and may replace any method.

    `prepare` is the one that a file system with snapshots of its own makes cheap, by `copy`; what a step changed and what a layer is can
    stay as they are.
    """

    independent_layers: ClassVar[bool] = False

    def __init__(self, host: Host, options: Mapping[str, Any] | None = None) -> None:  # Any: JSON
        super().__init__(host, options)
        self._shown: dict[int, bool] = {}  # by device, see `_times_tell`

    @classmethod
    def probe(cls, host: Host) -> None:
        """Need nothing: a file system that can hold files is enough."""

    def prepare(self, directory: str, parents: Sequence[str], *, mount_points: bool = False) -> Rootfs:
        """Copy the topmost parent. Mount points are left to the executor, which makes and removes what is missing."""
        return DirectoryRoot(self.copy(directory, parents))

    def view(self, parents: Sequence[str]) -> Rootfs:
        """Open the topmost parent, read-only where mounts are possible."""
        return DirectoryRoot(read_only(f"{parents[-1]}/{FILES}" if parents else self._empty_directory()))

    def apply(self, directory: str, parents: Sequence[str], layer: LayerStream) -> Applied:
        """Copy the topmost parent and unpack *layer* over it, deletions included."""
        os.close(self.copy(directory, parents))
        return self._unpack(directory, layer, "layer-apply")[0]

    def changes(self, directory: str, parents: Sequence[str]) -> Changes:
        """Compare with the topmost parent what was touched since the copy."""
        times_tell = self._times_tell(directory)
        base_fd = open_directory(f"{parents[-1]}/{FILES}") if parents else -1
        root_fd = open_directory(f"{directory}/{FILES}")
        return CopyChanges(root_fd, f"{directory}/{RECORDS}", f"{directory}/{_INDEX}", base_fd, times_tell=times_tell)

    def _times_tell(self, directory: str) -> bool:
        """Return whether every change shows in a file's times; file systems on a disk of their own are known for that."""
        device = os.stat(directory).st_dev
        if os.major(device):
            return True
        with self._making:
            if device not in self._shown:
                self._shown[device] = shows_memory_writes(directory)
            return self._shown[device]

    def _superseded(self, parent: str) -> Callable[[bytes], bool]:
        """Return a test whether the step that made *parent* touched a path after the copy."""
        copied_at: list[int] = []

        def touched(path: bytes) -> bool:
            if not copied_at:
                copied_at.append(read_index(f"{parent}/{_INDEX}")[1])
            try:
                info = os.lstat(f"{parent}/{FILES}/".encode() + path)
            except (FileNotFoundError, NotADirectoryError):
                return True
            return info.st_ctime_ns >= copied_at[0]

        return touched

    def copy(self, directory: str, parents: Sequence[str]) -> int:
        """Make *directory*, which is not there yet, a copy of the topmost parent; return a descriptor of its files, to be closed.

        Without parents it is empty. Raises OSError; what was made until then is the caller's to remove.
        """
        self._make_files(directory)
        root_fd = open_directory(f"{directory}/{FILES}")
        try:
            inodes = _clone(f"{parents[-1]}/{FILES}", root_fd) if parents else {}
            write_index(f"{directory}/{_INDEX}", inodes)
        except BaseException:
            os.close(root_fd)
            raise
        return root_fd


def _clone(source: str, root_fd: int) -> dict[bytes, int]:
    source_fd = open_directory(source)
    try:
        return clone_tree(source_fd, root_fd)
    finally:
        os.close(source_fd)
