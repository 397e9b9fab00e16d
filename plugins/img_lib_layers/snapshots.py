"""What snapshotters have in common that keep each snapshot in a directory: its files in ``fs``, owner records in ``owners``.

Records stand for owners that could not be set: with a single id, and on links, which cannot carry an attribute.
"""

from __future__ import annotations

import errno
import os
import threading
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Final

from img_core.files import fs
from img_core.files.ownership import format_records, merge_records
from img_core.images.layer_types import codec_of_media_type
from img_core.linux import mounts, syscalls
from img_core.spec.snapshotter import Applied, LayerStream, Snapshotter
from img_core.spec.values import DiffId
from img_lib_layers.changes import disk_usage, read_records

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from img_core.archives.tar import Mode, Stats
    from img_core.spec.host import Host

__all__ = ["FILES", "RECORDS", "DirectoryRoot", "DirectorySnapshotter", "open_directory", "read_only"]

FILES: Final = "fs"  #: the files themselves, inside of a snapshot's directory
RECORDS: Final = "owners"


class DirectoryRoot:
    """An open directory (or a read-only mount of one); *more* are descriptors that have to stay open as long."""

    def __init__(self, fd: int, *more: int) -> None:
        self.fd = fd
        self._more = more

    def close(self) -> None:
        """Close it; harmless when called twice."""
        own, self.fd = self.fd, -1
        if own >= 0:
            for fd in (own, *self._more):
                os.close(fd)


def read_only(path: str) -> int:
    """Open the directory *path*, read-only where mounts are possible."""
    try:
        return mounts.bind(path, attributes=syscalls.MOUNT_ATTR_RDONLY)
    except OSError as err:
        if err.errno not in (errno.EPERM, errno.ENOSYS, errno.EINVAL):
            raise
        return open_directory(path)


class DirectorySnapshotter(Snapshotter):
    """Snapshots that are directories; a subclass says how they become root file systems."""

    def __init__(self, host: Host, options: Mapping[str, Any] | None = None) -> None:  # Any: JSON
        super().__init__(host, options)
        self._making = threading.Lock()  # guards the making of directories that this process needs
        self._nothing: str | None = None

    @abstractmethod
    def _superseded(self, parent: str) -> Callable[[bytes], bool]:
        """Return a test whether *parent* put something else at a path, or nothing, so that older records do not count there."""

    def record_owners(self, directory: str, owners: Mapping[bytes, tuple[int, int]]) -> None:
        """Keep *owners* beside the files, in addition to what is kept already."""
        if owners:
            path = f"{directory}/{RECORDS}"
            fs.replace_file(path, format_records({**read_records(path), **owners}))

    def owners(self, parents: Sequence[str]) -> Mapping[bytes, tuple[int, int]]:
        """Merge the records of all *parents*."""
        return merge_records((read_records(f"{parent}/{RECORDS}"), self._superseded(parent)) for parent in parents)

    def usage(self, directory: str) -> int:
        """Return the disk usage; extents that files share count in each."""
        return disk_usage(directory)

    def remove(self, directory: str) -> None:
        """Remove everything, also directories with mode 000."""
        fs.remove_tree(directory)

    def _make_files(self, directory: str) -> None:
        """Make *directory*, with an empty directory for files in it."""
        fs.mkdir(directory, 0o700)
        outer = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fs.mkdir(FILES.encode(), 0o755, dir_fd=outer)
        finally:
            os.close(outer)

    def _empty_directory(self) -> str:
        """Return an empty directory, which ends with this process."""
        with self._making:
            if self._nothing is None:
                path = os.path.join(self.host.run_directory, f"empty-{os.urandom(4).hex()}")
                fs.mkdir(path, 0o755)
                self._nothing = path
            return self._nothing

    def _unpack(self, directory: str, layer: LayerStream, form: Mode) -> tuple[Applied, Stats]:
        """Unpack *layer* into the files of *directory* and record owners; *form* is that of deletions, see `unpack_stream`."""
        root_fd = open_directory(f"{directory}/{FILES}")
        try:
            applied, stats = self._extract(root_fd, layer, form)
        finally:
            os.close(root_fd)
        self.record_owners(directory, {path: (uid, gid) for path, uid, gid in stats.owners})
        return applied, stats

    def _extract(self, root_fd: int, layer: LayerStream, form: Mode) -> tuple[Applied, Stats]:
        """Unpack *layer* below *root_fd*; owners that could not be set stand in the result."""
        from img_core.archives.tar import OwnerPolicy, unpack_stream  # 15 ms; a cached build unpacks nothing

        info, stats = unpack_stream(
            layer.chunks,
            root_fd,
            form,
            OwnerPolicy(
                "record" if self.host.mapping in ("single", "fake", "none") else "set",
                open_to_owner=self.host.mapping == "fake",
            ),
            compression=codec_of_media_type(layer.media_type),
            expected_digest=layer.digest,
            expected_size=layer.size,
            expected_diff_id=layer.diff_id,
        )
        return Applied(DiffId(info.diff_id), stats.size, tuple(map(fs.show, stats.skipped))), stats


def open_directory(path: str) -> int:
    """Open the directory *path* of ours for reading."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
