"""Fixtures of the acceptance tests; a ``conftest.py`` imports those it wants."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.bases import BUSYBOX, BUSYBOX_CONFIG, busybox_root, write_oci_archive
from harness.build_server import BuildServer, Workshop, build_server
from harness.containers import Containers
from harness.img import Img, environment, remove_as_mapped_root

__all__ = ["busybox_archive", "containers", "img", "new_state", "seed", "server", "workshop"]


@pytest.fixture(scope="session")
def busybox_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an OCI archive of the base image that most tests build from, called ``busybox``."""
    if not BUSYBOX.exists():
        pytest.skip("this host lacks `/bin/busybox` (package busybox-static)")
    archive = tmp_path_factory.mktemp("busybox") / "busybox.tar"
    return write_oci_archive(archive, [busybox_root()], name="docker.io/library/busybox:latest", config=BUSYBOX_CONFIG)


@pytest.fixture(scope="session")
def seed(tmp_path_factory: pytest.TempPathFactory, busybox_archive: Path) -> Path:
    """Give a state directory that holds ``busybox`` and nothing else; copy it, never use it."""
    directory = tmp_path_factory.mktemp("seed")
    load(directory / "state", busybox_archive, directory)
    return directory / "state"


def load(state: Path, archive: Path, home: Path) -> None:
    """Load an image archive into a state directory."""
    Img(state, home).run("load", "-i", archive).ok()


class NewState:
    """Makes state directories that already hold ``busybox``."""

    def __init__(self, directory: Path, seed: Path) -> None:
        self._directory = directory
        self._seed = seed
        self._made: list[Path] = []

    def __call__(self, name: str = "state", *, seeded: bool = True) -> Img:
        """Return the command with a new state directory."""
        state = self._directory / name
        home = self._directory / "home"
        home.mkdir(exist_ok=True)
        if seeded:
            shutil.copytree(self._seed, state)
        self._made.append(state)
        return Img(state, home)

    def close(self) -> None:
        """Remove them all."""
        for state in self._made:
            remove_as_mapped_root(state)


@pytest.fixture
def new_state(tmp_path: Path, seed: Path) -> Iterator[NewState]:
    """Give a maker of state directories."""
    maker = NewState(tmp_path, seed)
    yield maker
    maker.close()


@pytest.fixture
def img(new_state: NewState) -> Img:
    """Give the command with a state directory that holds ``busybox``."""
    return new_state()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, seed: Path) -> Iterator[BuildServer]:
    """Give a process for many small builds, on one state directory that starts with ``busybox``."""
    directory = tmp_path_factory.mktemp("server")
    shutil.copytree(seed, directory / "state")
    with build_server(directory / "state", environment(directory)) as running:
        yield running
    remove_as_mapped_root(directory / "state")


@pytest.fixture
def workshop(server: BuildServer, tmp_path: Path, request: pytest.FixtureRequest) -> Workshop:
    """Give this test's own corner of the server."""
    return Workshop(server, tmp_path, request.node.name)


@pytest.fixture(scope="session")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """Give the container tools with storage of their own."""
    tools = Containers(tmp_path_factory.mktemp("containers"))
    yield tools
    tools.close()
