"""Registers the secret provider ``env``."""

from img_core.spec import SecretProvider, hookimpl


@hookimpl
def img_secret() -> type[SecretProvider]:
    """Return the provider class."""
    from img_secret_env._env import VariableSecret

    return VariableSecret
