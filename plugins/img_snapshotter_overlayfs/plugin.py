"""``overlayfs``: one directory per layer, merged by the kernel; the fastest choice where the kernel allows it."""

from img_core.spec import Snapshotter, hookimpl


@hookimpl
def img_snapshotter() -> type[Snapshotter]:
    """Return the driver."""
    from img_snapshotter_overlayfs._overlay import OverlaySnapshotter

    return OverlaySnapshotter
