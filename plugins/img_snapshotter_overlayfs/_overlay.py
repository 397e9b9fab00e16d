"""The overlayfs snapshotter: the format of `img_lib_layers.overlay`, merged by the kernel.

Mounts are detached: they exist as descriptors only, appear in no mount table of ours and end with their last descriptor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from img_lib_layers.overlay.layout import WORK, MountedRoot
from img_lib_layers.overlay.snapshotter import OverlayFormatSnapshotter, make_empty
from img_snapshotter_overlayfs._layers import mount_layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_core.spec.snapshotter import Rootfs

__all__ = ["OverlaySnapshotter"]


class OverlaySnapshotter(OverlayFormatSnapshotter):
    """Snapshots that the kernel merges."""

    name: ClassVar[str] = "overlayfs"
    independent_layers: ClassVar[bool] = True
    probe_lasts: ClassVar[bool] = True

    def _mount(self, lowers: Sequence[str], snapshot: str = "") -> Rootfs:
        staging = self._helper("overlay-staging", make_empty)
        if not snapshot and len(lowers) == 1:
            # Two layers are the least that the kernel merges without a writable one.
            lowers = [self._helper("empty-upper", make_empty), *lowers]
        fd = mount_layers(lowers, snapshot=snapshot, staging=staging)
        return MountedRoot(fd, f"{snapshot}/{WORK}" if snapshot else "")
