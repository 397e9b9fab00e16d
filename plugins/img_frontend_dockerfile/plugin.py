"""Registers the frontend ``dockerfile``, the default."""

from img_core.spec import Frontend, hookimpl


@hookimpl
def img_frontend() -> type[Frontend]:
    """Return the frontend class."""
    from img_frontend_dockerfile._frontend import DockerfileFrontend

    return DockerfileFrontend
