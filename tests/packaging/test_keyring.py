"""The distribution with the credential store of the desktop's keyring: found when it is installed, and asked only when it is chosen."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging_support import ROOT, Environment, build_wheel, check_content


@pytest.fixture(scope="module")
def keyring_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(ROOT / "plugins" / "img-credentials-keyring", tmp_path_factory.mktemp("keyring"))


def test_the_wheel_has_the_package_and_asks_for_keyring(keyring_wheel: Path) -> None:
    check_content(keyring_wheel, "img_credentials_keyring", "keyring")


def test_it_is_listed_and_can_be_switched_off(installed: Environment, keyring_wheel: Path) -> None:
    assert "credentials:keyring" not in installed.statuses()
    installed.install(keyring_wheel)
    assert installed.statuses()["credentials:keyring"] == "ok"
    assert installed.statuses("--no-plugin", "credentials:keyring")["credentials:keyring"] == "disabled"


def test_logins_of_others_work_beside_it(installed: Environment, keyring_wheel: Path) -> None:
    installed.install(keyring_wheel)
    done = installed.img("login", "--list")
    assert done.returncode == 0, done.stderr
