"""Fixtures of the acceptance tests."""

from collections.abc import Iterator

import pytest

from harness.fixtures import busybox_archive, containers, img, new_state, seed, server, workshop
from harness.img import environment, give_to_us
from harness.warm_commands import commands_in_forks

__all__ = ["busybox_archive", "containers", "img", "new_state", "seed", "server", "workshop"]


@pytest.fixture(scope="session", autouse=True)
def _files_of_ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Leave nothing that pytest cannot remove when it tidies up, three sessions later."""
    yield
    give_to_us(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session", autouse=True)
def _commands_in_forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Pay once for the imports of all commands."""
    with commands_in_forks(environment(tmp_path_factory.mktemp("commands"))):
        yield
