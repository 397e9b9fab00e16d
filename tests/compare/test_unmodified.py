"""The same Dockerfile built in an unmodified container gives the same image, to the digest of each layer, as on this machine.

As root, who can start such containers (`nox -s containers`); every twentieth Dockerfile, or with ``--every 1`` all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from compare.dockerfiles import CASES
from compare.unmodified import EXCEPTIONS, EXCEPTIONS_OF, Twins, reason
from harness.build_server import BuildServer, build_server
from harness.fixtures import load
from harness.host import AS_ROOT
from harness.img import environment

#: kind -> how many images of a hundred may differ
KINDS = {
    "root": 5,
    "host-users-false": 5,
    "cri-o-root": 7,
    "host-users-false-drop-all": 7,
    "restricted-open-root": 7,
    "restricted-prepared": 12,
}
WORST = "run/hard-links-across-steps"  #: an exception, which is in each sample


@pytest.mark.parametrize("kind", KINDS)
def test_the_exceptions_are_few_and_exist(kind: str) -> None:
    listed = {**EXCEPTIONS, **EXCEPTIONS_OF.get(kind, {})}
    names = {name for names in listed.values() for name in names}
    assert names <= set(CASES)
    assert len(names) <= len(CASES) * KINDS[kind] / 100


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose Dockerfiles."""
    if "name" in metafunc.fixturenames:
        every = metafunc.config.getoption("--every")
        names = [name for name in list(CASES)[::every] if every == 1 or "FROM debian" not in CASES[name].text]
        metafunc.parametrize("name", sorted({*names, WORST}))
        kinds = [kind for kind in KINDS if every == 1 or kind != "host-users-false-drop-all"]  # like the one after it
        metafunc.parametrize("twins", kinds, indirect=True, scope="module")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, busybox_archive: Path) -> Iterator[BuildServer]:
    """Give the builder of this machine."""
    directory = tmp_path_factory.mktemp("here")
    with build_server(directory / "state", environment(directory)) as running:
        load(directory / "state", busybox_archive, directory)
        yield running


@pytest.fixture(scope="module")
def twins(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, busybox_archive: Path, here: BuildServer
) -> Iterator[Twins]:
    """Give both builders."""
    with Twins.started(request.param, busybox_archive, here, tmp_path_factory.mktemp("twins")) as started:
        yield started


def check_the_image_is_the_same(twins: Twins, name: str) -> None:
    found = twins.differences(CASES[name])
    if reason(twins.box.kind, name):
        assert found, "a listed exception is gone"
    else:
        assert not found, "\n".join(found)


if AS_ROOT:
    test_the_image_is_the_same = check_the_image_is_the_same
