"""Registers the secret provider ``file``."""

from img_core.spec import SecretProvider, hookimpl


@hookimpl
def img_secret() -> type[SecretProvider]:
    """Return the provider class."""
    from img_secret_file._file import FileSecret

    return FileSecret
