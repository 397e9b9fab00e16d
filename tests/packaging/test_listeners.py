"""The distributions with listeners: each is found when it is installed, and can be switched off."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging_support import ROOT, Environment, build_wheel, check_content

LISTENERS = {"img-policy-sources": "source-policy", "img-notify-otel": "otel"}


@pytest.mark.parametrize("distribution", LISTENERS)
def test_it_is_listed_and_can_be_switched_off(installed: Environment, distribution: str, tmp_path: Path) -> None:
    wheel, plugin = build_wheel(ROOT / "plugins" / distribution, tmp_path), f"listener:{LISTENERS[distribution]}"
    check_content(wheel, distribution.replace("-", "_"), "img-builder")
    assert plugin not in installed.statuses()
    installed.install(wheel)
    assert installed.statuses()[plugin] == "ok"
    assert installed.statuses("--no-plugin", plugin)[plugin] == "disabled"
