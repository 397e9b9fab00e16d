"""Registers the credential store ``containers``."""

from img_core.spec import CredentialStore, hookimpl


@hookimpl
def img_credentials() -> type[CredentialStore]:
    """Return the store class."""
    from img_credentials_containers._store import ContainersStore

    return ContainersStore
