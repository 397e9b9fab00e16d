"""``native``: every snapshot is a whole tree, copied from the one before; slow, but it needs nothing from the kernel."""

from img_core.spec import Snapshotter, hookimpl


@hookimpl
def img_snapshotter() -> type[Snapshotter]:
    """Return the driver."""
    from img_snapshotter_native._native import NativeSnapshotter

    return NativeSnapshotter
