"""``runc-embedded``: run steps with a runc of our own, where the host has none."""

from img_core.spec import Executor, hookimpl


@hookimpl
def img_executor() -> type[Executor]:
    """Return the executor class."""
    from img_runc_embedded._executor import EmbeddedRuncExecutor

    return EmbeddedRuncExecutor
