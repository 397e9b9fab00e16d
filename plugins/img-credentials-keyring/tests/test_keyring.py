"""The contract of credential stores, against the real package `keyring` with a backend that keeps its secrets in a file."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

keyring = pytest.importorskip("keyring")

from img_credentials_keyring._store import KeyringStore  # noqa: E402

from img_core.spec.errors import CredentialsError  # noqa: E402
from img_core.spec.values import Credentials  # noqa: E402
from img_core.testing.contracts.credentials import CredentialStoreContract  # noqa: E402


class FileKeyring(keyring.backend.KeyringBackend):
    """A keyring in one file."""

    priority = 1  # type: ignore[assignment]  # as the documentation of keyring does it

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def _change(self, change):
        with os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            data = json.loads(file.read() or "{}")
            result = change(data)
            file.seek(0)
            file.truncate()
            json.dump(data, file)
            return result

    def get_password(self, service: str, username: str) -> str | None:
        return self._change(lambda data: data.get(f"{service}/{username}"))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._change(lambda data: data.update({f"{service}/{username}": password}))

    def delete_password(self, service: str, username: str) -> None:
        self._change(lambda data: data.pop(f"{service}/{username}"))


@pytest.fixture(autouse=True)
def file_keyring(tmp_path: Path) -> Path:
    path = tmp_path / "secrets"
    keyring.set_keyring(FileKeyring(path))
    return path


class TestKeyring(CredentialStoreContract):
    store_class = KeyringStore


def test_the_file_of_names_holds_no_secret(tmp_path: Path, file_keyring: Path) -> None:
    KeyringStore({"HOME": str(tmp_path)}).store("a.example", Credentials("joe", "s3cret"))
    assert json.loads((tmp_path / ".config/img/keyring.json").read_text()) == {"a.example": "joe"}
    assert "s3cret" in file_keyring.read_text()


def test_a_host_without_a_keyring_is_named(tmp_path: Path) -> None:
    from keyring.backends import fail

    keyring.set_keyring(fail.Keyring())
    store = KeyringStore({"HOME": str(tmp_path)})
    assert store.get("a.example") is None
    with pytest.raises(CredentialsError, match=r"there is no keyring for the credentials of `a\.example`"):
        store.store("a.example", Credentials("joe", "pw"))
    assert store.list() == {}


def test_nothing_is_loaded_for_servers_that_it_does_not_know(tmp_path: Path) -> None:
    use = "from img_credentials_keyring._store import KeyringStore; KeyringStore({'HOME': '/nope'}).get('a')"
    program = f"import sys; {use}; print('keyring' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
