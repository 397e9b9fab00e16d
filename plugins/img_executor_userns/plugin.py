"""``userns``: run steps in namespaces that we make ourselves; needs no other program."""

from img_core.spec import Executor, hookimpl


@hookimpl
def img_executor() -> type[Executor]:
    """Return the executor class."""
    from img_executor_userns._executor import UsernsExecutor

    return UsernsExecutor
