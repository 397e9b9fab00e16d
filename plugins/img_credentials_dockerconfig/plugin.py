"""``dockerconfig``: ``$DOCKER_CONFIG/config.json`` or ``~/.docker/config.json``, and the helper programs it names."""

from img_core.spec import CredentialStore, hookimpl


@hookimpl
def img_credentials() -> type[CredentialStore]:
    """Return the credential store class."""
    from img_credentials_dockerconfig._store import DockerConfigStore

    return DockerConfigStore
