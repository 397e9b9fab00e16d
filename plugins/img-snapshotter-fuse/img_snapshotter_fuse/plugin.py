"""``fuse-overlayfs``: one directory per layer, merged in user space; for kernels that do not let us mount overlayfs."""

from img_core.spec import Snapshotter, hookimpl


@hookimpl
def img_snapshotter() -> type[Snapshotter]:
    """Return the driver."""
    from img_snapshotter_fuse._snapshotter import FuseSnapshotter

    return FuseSnapshotter
