"""What lies where in a snapshot, and what every mount of layers has."""

from __future__ import annotations

import os
from typing import Final

from img_core.files import fs

__all__ = ["MOUNT_POINTS", "WORK", "MountedRoot", "make_stub"]

WORK: Final = "work"  #: overlayfs moves files through it while the snapshot is being written

#: where executors mount something; a trailing slash marks directories
MOUNT_POINTS: Final = (b"dev/", b"etc/", b"etc/hosts", b"etc/resolv.conf", b"proc/", b"sys/")


class MountedRoot:
    """A detached mount; *work* is the directory that is useless once it is closed."""

    def __init__(self, fd: int, work: str = "") -> None:
        self.fd = fd
        self._work = work

    def close(self) -> None:
        """Close the mount, which ends it unless a container still holds it; harmless when called twice."""
        fd, self.fd = self.fd, -1
        if fd < 0:
            return
        os.close(fd)
        if self._work:
            fs.remove_tree(self._work)


def make_stub(directory: str) -> None:
    """Make the layer *directory* that lies below all others when a container runs: empty mount points, nothing else."""
    fs.mkdir(directory, 0o755)
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in MOUNT_POINTS:
            if name.endswith(b"/"):
                fs.mkdir(name.rstrip(b"/"), 0o755, dir_fd=root)
            else:
                os.close(fs.open_beneath(root, name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    finally:
        os.close(root)
