"""Fixtures for tests of exporters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from img_core.files import faults
from img_core.spec.values import Platform
from img_core.testing.results import ReadyResult, make_result

AMD64, ARM = Platform("linux", "amd64"), Platform("linux", "arm", "v7")


@pytest.fixture
def result(tmp_path: Path) -> ReadyResult:
    return make_result(tmp_path / "result")


@pytest.fixture
def both(tmp_path: Path) -> ReadyResult:
    return make_result(tmp_path / "both", platforms=[AMD64, ARM])


@pytest.fixture(autouse=True)
def no_faults_left() -> Iterator[None]:
    yield
    faults.uninstall()
