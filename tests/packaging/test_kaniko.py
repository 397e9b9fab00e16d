"""The distribution with kaniko's command line: installed beside img, its command is there and speaks for img."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging_support import ROOT, Environment, build_wheel, check_content


@pytest.fixture(scope="module")
def kaniko_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(ROOT / "plugins" / "img-kaniko", tmp_path_factory.mktemp("kaniko"))


def test_the_wheel_has_the_package_and_nothing_else(kaniko_wheel: Path) -> None:
    check_content(kaniko_wheel, "img_kaniko", "img-builder")


def test_the_command_is_installed(installed: Environment, kaniko_wheel: Path) -> None:
    installed.install(kaniko_wheel)
    done = installed.program("executor", "--context", ".")
    assert done.returncode == 2
    assert "you must provide --destination" in done.stderr
