"""The FUSE snapshotter: the format of `img_core.kit.overlay`, merged in user space."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.kit.overlay.layout import FILES, WORK
from img_core.kit.overlay.snapshotter import OverlayFormatSnapshotter
from img_core.spec.errors import Unsupported
from img_snapshotter_fuse._mount import DEVICE, FuseRoot, Server

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.spec.host import Host
    from img_core.spec.snapshotter import Rootfs

__all__ = ["FuseSnapshotter"]


class FuseSnapshotter(OverlayFormatSnapshotter):
    """Snapshots that a FUSE file system of ours merges."""

    name: ClassVar[str] = "fuse-overlayfs"
    independent_layers: ClassVar[bool] = True

    def __init__(self, host: Host, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(host, options)
        self._server = Server(host.spawner)

    @classmethod
    def probe(cls, host: Host) -> None:
        """Need the device and pyfuse3; then try."""
        if find_spec("pyfuse3") is None:
            raise Unsupported("fuse-overlayfs needs the Python package pyfuse3", hint="`pip install pyfuse3`")
        _check_device()
        super().probe(host)

    def _mount(self, lowers: Sequence[str], snapshot: str = "") -> Rootfs:
        if not snapshot:
            return FuseRoot(self._server.mount(lowers))
        work = f"{snapshot}/{WORK}"
        return FuseRoot(self._server.mount(lowers, f"{snapshot}/{FILES}", work), work)


def _check_device() -> None:
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise Unsupported(f"fuse-overlayfs needs `{DEVICE}`", hint="`sudo modprobe fuse`") from None
    except OSError as err:
        reason = os.strerror(err.errno or 0).lower()
        raise Unsupported(
            f"fuse-overlayfs cannot open `{DEVICE}`: {reason}", hint=f"`sudo chmod 666 {DEVICE}`"
        ) from err
