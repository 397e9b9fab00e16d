"""Registers the credential store ``keyring``."""

from img_core.spec import CredentialStore, hookimpl


@hookimpl
def img_credentials() -> type[CredentialStore]:
    """Return the store class."""
    from img_credentials_keyring._store import KeyringStore

    return KeyringStore
