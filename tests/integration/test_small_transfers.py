"""Small images: how many requests and connections they take, for each request is a wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.img import Img
from img_core.testing.faulty_registry import FaultyRegistry
from img_core.testing.images import SmallImage, make_image
from img_core.testing.registry import Authority

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.registry

LAYERS = 10
BLOBS = LAYERS + 1  # and a config
MOST_CONNECTIONS = 5  # four at the same time, and the question whether loopback speaks TLS


@pytest.fixture
def empty(tmp_path: Path) -> Img:
    """Give the command with a state directory that does not exist yet."""
    (tmp_path / "home").mkdir()
    return Img(tmp_path / "state", tmp_path / "home")


@pytest.fixture
def image() -> SmallImage:
    return make_image([{f"file{number}": b"%d" % number * 200} for number in range(LAYERS)])


@pytest.fixture
def secure(authority: Authority) -> Iterator[FaultyRegistry]:
    with FaultyRegistry(certificate=authority.issue("small")) as running:
        yield running


def counted(registry: FaultyRegistry) -> Counter[str]:
    return Counter(item.method for item in registry.asked())


def connections(registry: FaultyRegistry) -> int:
    return len({item.connection for item in registry.requests})


def pulled(empty: Img, secure: FaultyRegistry, authority: Authority, image: SmallImage) -> Img:
    """Return *empty* with *image*, which came from elsewhere, under a name of *secure*."""
    trusting = empty.with_environment(SSL_CERT_FILE=str(authority.certificate))
    with FaultyRegistry() as elsewhere:
        elsewhere.add("app", "1", image)
        trusting.run("pull", f"{elsewhere.address}/app:1").ok()
        trusting.run("tag", f"{elsewhere.address}/app:1", f"{secure.address}/new:1").ok()
    return trusting


def test_a_pull_takes_one_request_per_blob(
    empty: Img, secure: FaultyRegistry, authority: Authority, image: SmallImage
) -> None:
    secure.add("app", "1", image)
    empty.with_environment(SSL_CERT_FILE=str(authority.certificate)).run("pull", f"{secure.address}/app:1").ok()
    assert counted(secure) == {"GET": BLOBS + 1}
    assert connections(secure) <= MOST_CONNECTIONS


def test_a_push_of_small_layers_takes_few_requests(
    empty: Img, secure: FaultyRegistry, authority: Authority, image: SmallImage
) -> None:
    img = pulled(empty, secure, authority, image)
    img.run("push", f"{secure.address}/new:1").ok()
    assert counted(secure) == {"POST": BLOBS, "PUT": BLOBS + 1}, (
        "whether it is there and where it goes in one, the bytes with their digest"
    )
    assert connections(secure) <= MOST_CONNECTIONS
    secure.requests.clear()
    img.run("push", f"{secure.address}/new:1").ok()
    assert counted(secure) == {"HEAD": BLOBS, "PUT": 1}, "nothing is sent again"
    secure.requests.clear()
    img.run("push", f"{secure.address}/new:1", f"{secure.address}/other:1").ok()
    assert counted(secure) == {"POST": BLOBS, "PUT": 1}, "a mount is one request, whether the blob is there or not"
    assert {item.status for item in secure.asked("POST")} == {201}


def test_small_layers_that_somebody_else_pushed_are_not_sent(
    empty: Img, secure: FaultyRegistry, authority: Authority, image: SmallImage
) -> None:
    """Nobody told this state directory that the repository has them."""
    secure.add("new", "other", image)
    pulled(empty, secure, authority, image).run("push", f"{secure.address}/new:1").ok()
    assert counted(secure) == {"POST": BLOBS, "PUT": 1}
    assert {item.status for item in secure.asked("POST")} == {201}
