"""Secrets in the keyring, names of servers and users in a file: a keyring cannot tell what it holds."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.files import fs
from img_core.spec.credentials import CredentialStore
from img_core.spec.errors import CredentialsError
from img_core.spec.values import Credentials
from img_lib_credentials import load_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["KeyringStore"]

_SERVICE = "img registry"  # what the keyring's own program shows


class KeyringStore(CredentialStore):
    """One secret per server, under the service ``img registry`` and the server's name; a file has the names of the servers.

    The keyring is loaded only for servers in that file.
    """

    name: ClassVar[str] = "keyring"

    def get(self, server: str, repository: str = "") -> Credentials | None:
        """Return the credentials for *server*."""
        if server not in self._known():
            return None
        with _errors(server) as keyring:
            text = keyring.get_password(_SERVICE, server)
        return None if text is None else _decode(text, server)

    def store(self, server: str, credentials: Credentials) -> None:
        """Keep *credentials*: first the secret, then the name."""
        secret = {"password": credentials.password, "identity_token": credentials.identity_token}
        document = {"username": credentials.username, **{key: value for key, value in secret.items() if value}}
        with self._locked():
            with _errors(server) as keyring:
                keyring.set_password(_SERVICE, server, json.dumps(document))
            self._write({**self._known(), server: credentials.username})

    def erase(self, server: str) -> bool:
        """Forget *server*: first the secret, then the name."""
        if server not in self._known():
            return False
        with self._locked():
            known = dict(self._known())
            with _errors(server) as keyring:
                if keyring.get_password(_SERVICE, server) is not None:
                    keyring.delete_password(_SERVICE, server)
            known.pop(server, None)
            self._write(known)
        return True

    def list(self) -> Mapping[str, str]:
        """Return server to user name, without asking the keyring."""
        return self._known()

    @property
    def _path(self) -> str:
        home = self.environment.get("HOME", "")
        config = self.environment.get("XDG_CONFIG_HOME", "") or os.path.join(home, ".config")
        return os.path.join(config, "img", "keyring.json") if os.path.isabs(config) else ""

    def _known(self) -> dict[str, str]:
        document = load_object(self._path) if self._path else None
        return {server: name for server, name in (document or {}).items() if isinstance(name, str)}

    def _write(self, known: Mapping[str, str]) -> None:
        fs.replace_file(self._path, json.dumps(known, indent="\t").encode() + b"\n", 0o600, sync=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other writers of the file out."""
        if not self._path:
            raise CredentialsError("cannot keep credentials: `HOME` is not set")
        directory = os.path.dirname(self._path)
        for path in (os.path.dirname(directory), directory):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


@contextlib.contextmanager
def _errors(server: str) -> Iterator[Any]:  # Any: the module keyring
    """Give the module `keyring`, loaded now (it looks for desktops), and say what it complains about in one line."""
    import keyring
    from keyring.errors import KeyringError, NoKeyringError

    try:
        yield keyring
    except NoKeyringError as err:
        raise CredentialsError(
            f"there is no keyring for the credentials of `{server}`",
            hint="unlock or start the keyring of your desktop, or take `keyring` out of `[order]` in config.toml",
        ) from err
    except KeyringError as err:
        text = str(err) or type(err).__name__
        raise CredentialsError(f"the keyring failed for `{server}`: {fs.show(text)}") from err


def _decode(text: str, server: str) -> Credentials:
    try:
        document = json.loads(text)
        fields = {key: str(document[key]) for key in ("username", "password", "identity_token") if key in document}
    except (ValueError, TypeError, AttributeError):
        raise CredentialsError(f"what the keyring holds for `{server}` was not written by img") from None
    return Credentials(**fields)
