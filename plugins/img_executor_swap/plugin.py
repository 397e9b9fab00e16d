"""``swap``: run steps where no namespace can be made and chroot is not allowed, in place of the container's own files."""

from img_core.spec import Executor, hookimpl


@hookimpl
def img_executor() -> type[Executor]:
    """Return the executor class."""
    from img_executor_swap._executor import SwapExecutor

    return SwapExecutor
