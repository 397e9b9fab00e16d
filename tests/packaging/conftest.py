from __future__ import annotations

from pathlib import Path

import pytest
from packaging_support import EXAMPLE, ROOT, Environment, build_wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of img."""
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def example_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the sample plugin."""
    return build_wheel(EXAMPLE, tmp_path_factory.mktemp("example"))


@pytest.fixture(scope="session")
def pattern(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """An environment into which pip has put img; copy it, never use it."""
    environment = Environment.create(tmp_path_factory.mktemp("pattern"))
    environment.install(wheel)
    return environment


@pytest.fixture
def installed(tmp_path: Path, pattern: Environment) -> Environment:
    """An environment with img in it."""
    return pattern.copy(tmp_path)
