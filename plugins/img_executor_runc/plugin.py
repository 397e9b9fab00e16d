"""``runc``: run steps with runc or crun from PATH."""

from img_core.spec import Executor, hookimpl


@hookimpl
def img_executor() -> type[Executor]:
    """Return the executor class."""
    from img_executor_runc._executor import RuncExecutor

    return RuncExecutor
