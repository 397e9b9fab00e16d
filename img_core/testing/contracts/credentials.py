"""What every credential store promises. Subclass `CredentialStoreContract` and name the class::

    class TestMine(CredentialStoreContract):
        store_class = MyStore

Each test gets a fresh ``HOME``; override `environment` for a store that needs more.
"""

# ruff: noqa: D102, PT017 - a test's name is its claim
from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ClassVar

import pytest

from img_core.files.fs import faults
from img_core.spec.errors import ImgError
from img_core.spec.values import Credentials
from img_core.testing.contracts.driver import DriverContract
from img_core.testing.processes import fork, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from img_core.spec.credentials import CredentialStore

__all__ = ["CredentialStoreContract"]

SECRET = 's3cret-canary: "quoted" \\ ünïcode'  # noqa: S105 - the hard kind of password
JOE = Credentials("joe", SECRET)


class CredentialStoreContract(DriverContract):
    """The promises of `img_core.spec.CredentialStore`, each as a test."""

    kind = "credentials"
    holder = "store_class"
    store_class: ClassVar[type[CredentialStore]]

    @pytest.fixture
    def environment(self, tmp_path: Path) -> dict[str, str]:
        """The environment of a user who never logged in."""
        home = tmp_path / "home"
        home.mkdir()
        return {"HOME": str(home), "PATH": "/usr/bin:/bin"}

    @pytest.fixture
    def store(self, environment: dict[str, str]) -> CredentialStore:
        made: CredentialStore = self.made(environment)
        return made

    @pytest.fixture(autouse=True)
    def no_faults_left(self) -> Iterator[None]:
        yield
        faults.uninstall()

    def test_new_store_knows_nothing(self, store: CredentialStore) -> None:
        assert store.get("registry.example") is None
        assert store.get("docker.io", "library/busybox") is None
        assert dict(store.list()) == {}
        assert store.erase("registry.example") is False

    def test_credentials_come_back_in_another_process(
        self, store: CredentialStore, environment: dict[str, str]
    ) -> None:
        store.store("registry.example:5000", JOE)
        assert self.made(environment).get("registry.example:5000", "any/repository") == JOE
        assert dict(store.list()) == {"registry.example:5000": "joe"}

    def test_later_login_replaces_the_earlier(self, store: CredentialStore) -> None:
        store.store("registry.example", JOE)
        store.store("registry.example", Credentials("ann", "other"))
        assert store.get("registry.example") == Credentials("ann", "other")
        assert dict(store.list()) == {"registry.example": "ann"}

    def test_identity_token_is_kept_as_one(self, store: CredentialStore) -> None:
        store.store("registry.example", Credentials(identity_token=SECRET))
        found = store.get("registry.example")
        assert found is not None
        assert found.identity_token == SECRET

    def test_erased_server_is_gone_and_others_stay(self, store: CredentialStore) -> None:
        store.store("a.example", JOE)
        store.store("b.example", JOE)
        assert store.erase("a.example") is True
        assert store.erase("a.example") is False
        assert store.get("a.example") is None
        assert store.get("b.example") == JOE

    @pytest.mark.parametrize(
        "other",
        ["example", "evil-registry.example", "registry.example.evil", "registry.example:5000", "sub.registry.example"],
    )
    def test_password_is_for_that_server_only(self, other: str, store: CredentialStore) -> None:
        store.store("registry.example", JOE)
        assert store.get(other) is None
        assert store.get(other, "registry.example/x") is None
        assert store.erase(other) is False

    def test_docker_hub_is_called_docker_io(self, store: CredentialStore) -> None:
        store.store("docker.io", JOE)
        assert store.get("docker.io", "library/busybox") == JOE
        assert dict(store.list()) == {"docker.io": "joe"}
        assert store.erase("docker.io") is True

    def test_secret_is_never_shown(self, store: CredentialStore) -> None:
        store.store("registry.example", JOE)
        found = store.get("registry.example")
        assert "s3cret" not in repr(found)
        assert "s3cret" not in repr(store.list())

    def test_files_are_readable_by_the_user_only(self, store: CredentialStore, environment: dict[str, str]) -> None:
        from pathlib import Path

        store.store("registry.example", JOE)
        for path in Path(environment["HOME"]).rglob("*"):
            assert path.stat().st_mode & 0o077 == 0, path

    def test_logins_at_the_same_time_are_all_kept(self, store: CredentialStore, environment: dict[str, str]) -> None:
        servers = [f"r{number}.example" for number in range(12)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda server: self.made(environment).store(server, JOE), servers))
        assert sorted(store.list()) == sorted(servers)

    @pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
    def test_a_failing_disk_loses_no_login(
        self, store: CredentialStore, environment: dict[str, str], error: int
    ) -> None:
        for number in range(1, self.count_changes(store) + 1):
            faults.install(fail_at=number, error=error)
            try:
                self.made(environment).store("new.example", JOE)
            except ImgError as err:
                assert "\n" not in err.message
                assert "s3cret" not in err.message
            finally:
                faults.uninstall()
            self.check_old_and_new(self.made(environment))

    def test_a_kill_loses_no_login(self, store: CredentialStore, environment: dict[str, str]) -> None:
        for number in range(1, self.count_changes(store) + 1):

            def store_it(number: int = number) -> None:
                faults.install(crash_at=number)
                self.made(environment).store("new.example", JOE)

            assert status_of(fork(store_it)) in (0, 137)
            self.check_old_and_new(self.made(environment))

    def count_changes(self, store: CredentialStore) -> int:
        """Log in; return how often that changed the disk: never, if a program or a service does it."""
        store.store("old.example", JOE)
        faults.install()
        store.store("other.example", JOE)
        faults.uninstall()
        return faults.count()

    def check_old_and_new(self, store: CredentialStore) -> None:
        """Insist that old logins are there and the new one is whole or not; log out of the new one."""
        assert store.get("old.example") == store.get("other.example") == JOE
        assert store.get("new.example") in (None, JOE)
        store.erase("new.example")
        assert sorted(store.list()) == ["old.example", "other.example"]
