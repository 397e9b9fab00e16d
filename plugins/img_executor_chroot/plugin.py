"""``chroot``: run steps where no namespace can be made, as root of an ordinary container."""

from img_core.spec import Executor, hookimpl


@hookimpl
def img_executor() -> type[Executor]:
    """Return the executor class."""
    from img_executor_chroot._executor import ChrootExecutor

    return ChrootExecutor
