from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from cli_support import environment, img

from harness.warm_commands import commands_in_forks

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="package", autouse=True)
def _commands_in_forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Pay once for the imports of all commands."""
    with commands_in_forks(environment(tmp_path_factory.mktemp("commands"))):
        yield


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return `img` with a fresh home directory."""
    return partial(img, tmp_path)
