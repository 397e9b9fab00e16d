"""``moving``: a stage has one tree, which goes from each step to the next; what a step changed is kept as its layer."""

from img_core.spec import Snapshotter, hookimpl


@hookimpl
def img_snapshotter() -> type[Snapshotter]:
    """Return the driver."""
    from img_snapshotter_moving._moving import MovingSnapshotter

    return MovingSnapshotter
