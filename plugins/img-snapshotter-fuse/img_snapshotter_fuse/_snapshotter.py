"""The FUSE snapshotter: the format of `img_lib_layers.overlay`, merged in user space."""

from __future__ import annotations

import os
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Final

from img_core.spec.errors import Unsupported
from img_lib_containers.oci_runtime.lookup import find_on_path
from img_lib_layers.overlay.layout import WORK
from img_lib_layers.overlay.snapshotter import OverlayFormatSnapshotter
from img_lib_layers.snapshots import FILES
from img_snapshotter_fuse._mount import DEVICE, Server
from img_snapshotter_fuse._program import Program

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.spec.host import Host
    from img_core.spec.snapshotter import Rootfs

__all__ = ["FuseSnapshotter"]

_FURTHER: Final = ("/usr/local/bin", "/usr/bin")


class FuseSnapshotter(OverlayFormatSnapshotter):
    """Snapshots that a FUSE file system merges: ours, or the program ``fuse-overlayfs`` where that is wanted or pyfuse3 is missing."""

    name: ClassVar[str] = "fuse-overlayfs"
    independent_layers: ClassVar[bool] = True
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "program": {"type": "string", "description": "name or path of fuse-overlayfs, to be used instead"}
        },
        "additionalProperties": False,
    }

    def __init__(self, host: Host, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(host, options)
        self._choosing = threading.Lock()  # guards the one below
        self._engine: Server | Program | None = None

    @classmethod
    def probe(cls, host: Host) -> None:
        """Need the device, and pyfuse3 or the program; then try."""
        _find_program(host, {})
        _check_device()
        super().probe(host)

    def _mount(self, lowers: Sequence[str], snapshot: str = "") -> Rootfs:
        engine = self._chosen()
        if not snapshot:
            return engine.mount(lowers)
        return engine.mount(lowers, f"{snapshot}/{FILES}", f"{snapshot}/{WORK}")

    def _chosen(self) -> Server | Program:
        with self._choosing:
            if self._engine is None:
                program = _find_program(self.host, self.options)
                spawner = self.host.spawner
                self._engine = Program(program, spawner) if program else Server(spawner)
            return self._engine


def _find_program(host: Host, options: Mapping[str, Any]) -> str:
    """Return the path of the program to be used, or an empty string for our own server."""
    wanted = options.get("program") or host.environment.get("IMG_FUSE_OVERLAYFS", "")
    if not wanted and find_spec("pyfuse3") is not None:
        return ""
    name = wanted or "fuse-overlayfs"
    path = name if "/" in name and os.access(name, os.X_OK) else find_on_path(host, name, further=_FURTHER)
    if path:
        return path
    if wanted:
        raise Unsupported(f"`{wanted}` is not on PATH")
    raise Unsupported("fuse-overlayfs needs the Python package pyfuse3", hint="`pip install pyfuse3`")


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
