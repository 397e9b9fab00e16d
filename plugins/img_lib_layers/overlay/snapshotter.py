"""What snapshotters of this format have in common: everything but the mounting.

A snapshot is ``<directory>/fs`` (the layer: the upper directory while it is written, a lower one afterwards), ``<directory>/work`` while it
is written, ``<directory>/owners`` with owner records if there are any, and ``<directory>/implied`` until its first use (see `implied`).
Deletions and replaced directories are marked as the kernel's overlayfs does with the option ``userxattr``.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.files import fs
from img_core.spec.errors import HostError, Unsupported
from img_lib_layers.changes import copy_look, scan
from img_lib_layers.overlay.changes import OverlayChanges, hides
from img_lib_layers.overlay.implied import remember, settle_others
from img_lib_layers.overlay.layout import WORK, make_stub
from img_lib_layers.snapshots import FILES, RECORDS, DirectorySnapshotter, open_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from img_core.spec.host import Host
    from img_core.spec.snapshotter import Applied, Changes, LayerStream, Rootfs, Snapshotter

__all__ = ["OverlayFormatSnapshotter", "make_empty"]


class OverlayFormatSnapshotter(DirectorySnapshotter):
    """Snapshots that are merged when they are used; a subclass mounts them."""

    format: ClassVar[str] = "overlayfs"  # so those of one are used by the others

    def __init__(self, host: Host, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(host, options)
        self._made: dict[str, str] = {}  # helper directories
        self._settled: set[str] = set()  # layers without a list of implied directories
        self._empties: dict[str, bool] = {}  # whether layers are empty

    @abstractmethod
    def _mount(self, lowers: Sequence[str], snapshot: str = "") -> Rootfs:
        """Merge the directories *lowers* (topmost first), below the files of the new *snapshot* if given. Raises HostError."""

    @classmethod
    def probe(cls, host: Host) -> None:
        """Mount, write, delete and look, in a directory of the state that is removed again."""
        if host.mapping == "none":
            raise Unsupported(f"{cls.name} needs a user namespace or root")
        base = os.path.join(host.state_directory, f".probe-{os.urandom(8).hex()}")
        try:
            fs.make_private(base)
        except OSError as err:
            reason = os.strerror(err.errno or 0).lower()
            raise Unsupported(f"{cls.name} cannot be tried: {reason}: `{fs.show(host.state_directory)}`") from err
        try:
            _try(cls(host), base)
        except HostError as err:
            raise Unsupported(err.message, hint=err.hint) from err
        except OSError as err:
            raise Unsupported(f"{cls.name} does not work here: {os.strerror(err.errno or 0).lower()}") from err
        finally:
            fs.remove_tree(base)

    def prepare(self, directory: str, parents: Sequence[str], *, mount_points: bool = False) -> Rootfs:
        """Mount a new layer on *parents*; with *mount_points* there is a layer of empty mount points below everything."""
        settle_others(parents, self._settled)
        self._make_files(directory)
        fs.mkdir(f"{directory}/{WORK}", 0o700)
        if parents:
            _copy_root(f"{parents[-1]}/{FILES}", f"{directory}/{FILES}")
        lowest = self._helper("mount-points", make_stub) if mount_points else self._empty()
        return self._mount([*self._files(parents), lowest], directory)

    def view(self, parents: Sequence[str]) -> Rootfs:
        """Mount *parents* read-only."""
        settle_others(parents, self._settled)
        return self._mount([*self._files(parents), self._empty()])

    def apply(self, directory: str, parents: Sequence[str], layer: LayerStream) -> Applied:
        """Unpack *layer* with whiteouts as overlayfs marks them; *parents* do not matter."""
        self._make_files(directory)
        applied, stats = self._unpack(directory, layer, "layer-overlay")
        remember(directory, stats.implied)
        return applied

    def changes(self, directory: str, parents: Sequence[str]) -> Changes:
        """Read the layer's directory; the parents are mounted only if something needs a comparison."""
        root_fd = open_directory(f"{directory}/{FILES}")
        return OverlayChanges(root_fd, f"{directory}/{RECORDS}", (lambda: self.view(parents)) if parents else None)

    def _superseded(self, parent: str) -> Callable[[bytes], bool]:
        return lambda path: hides(f"{parent}/{FILES}", path)

    def _make_files(self, directory: str) -> None:
        self._settled.discard(directory)
        self._empties.pop(directory, None)
        super()._make_files(directory)

    def _files(self, parents: Sequence[str]) -> list[str]:
        """Return the layer directories of *parents*, topmost first as overlayfs wants them, without those that change nothing.

        Linked copies may put a layer on a stack that has it already. The kernel refuses a directory that comes twice, and the upper one
        brings everything that the lower one did. Of an empty layer, as most steps that check something leave it, only the look of its root
        counts, and that only at the top: each layer more makes a mount slower, and there is a most of them.
        """
        once = list(dict.fromkeys(reversed(parents)))
        for parent in once[1:]:
            if parent not in self._empties:
                self._empties[parent] = _is_empty(f"{parent}/{FILES}")
        empties = self._empties
        return [f"{parent}/{FILES}" for parent in once if parent == once[0] or not empties[parent]]

    def _empty(self) -> str:
        return self._helper("overlay-empty", make_empty)

    def _helper(self, name: str, make: Callable[[str], None]) -> str:
        """Return the directory *name* of this process, made when it is needed first."""
        with self._making:
            path = self._made.get(name)
            if path is None:
                path = os.path.join(self.host.run_directory, f"{name}-{os.urandom(4).hex()}")
                make(path)
                self._made[name] = path
            return path


def _is_empty(files: str) -> bool:
    """Tell whether the directory *files* of a complete layer has no entry and hides nothing."""
    with os.scandir(files) as entries:
        return next(entries, None) is None and not any(name.endswith(".overlay.opaque") for name in os.listxattr(files))


def make_empty(path: str) -> None:
    """Make the empty directory *path*."""
    fs.mkdir(path, 0o755)


def _copy_root(source: str, target: str) -> None:
    """Give the root of a new layer the look of the root below it: the merged root is that of the top layer."""
    source_fd = open_directory(source)
    target_fd = open_directory(target)
    try:
        copy_look(source_fd, target_fd)
    finally:
        os.close(source_fd)
        os.close(target_fd)


def _try(snapshotter: Snapshotter, base: str) -> None:
    """Write files in one layer, delete one and replace the directory of another in the next.

    That takes a whiteout, which no file system of ours may hold below an overlay, and an attribute of a directory.
    """
    lower, upper = f"{base}/lower", f"{base}/upper"
    root = snapshotter.prepare(lower, [])
    try:
        os.mkdir("directory", 0o700, dir_fd=root.fd)
        for name in ("deleted", "directory/file"):
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=root.fd))
    finally:
        root.close()
    root = snapshotter.prepare(upper, [lower])
    try:
        for name in ("deleted", "directory/file"):
            os.unlink(name, dir_fd=root.fd)
        os.rmdir("directory", dir_fd=root.fd)
        os.mkdir("directory", 0o700, dir_fd=root.fd)
    finally:
        root.close()
    root = snapshotter.view([lower, upper])
    try:
        if [name for name, _ in scan(root.fd, b"")] != [b"directory"] or scan(root.fd, b"directory"):
            raise HostError(f"{snapshotter.name} does not hide deleted files here")
    finally:
        root.close()
