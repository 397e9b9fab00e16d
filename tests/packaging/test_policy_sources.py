"""The distribution with source policies: a listener that is found when it is installed, and that can be switched off."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging_support import ROOT, Environment, build_wheel, check_content


@pytest.fixture(scope="module")
def policy_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(ROOT / "plugins" / "img-policy-sources", tmp_path_factory.mktemp("policy"))


def test_it_is_listed_and_can_be_switched_off(installed: Environment, policy_wheel: Path) -> None:
    check_content(policy_wheel, "img_policy_sources", "img-builder")
    assert "listener:source-policy" not in installed.statuses()
    installed.install(policy_wheel)
    assert installed.statuses()["listener:source-policy"] == "ok"
    assert installed.statuses("--no-plugin", "listener:source-policy")["listener:source-policy"] == "disabled"
