"""A cache and an image in one registry: what one has is mounted by the other, and a layer that nobody reads never comes here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness.img import Img, write_context
from harness.machines import Machines
from harness.oci import ImageArchive
from img_core.testing.faulty_registry import FaultyRegistry, Recorded, status

pytestmark = pytest.mark.rootless
pytest_plugins = ["img_core.testing.fixtures"]

DOCKERFILE = "FROM busybox\nRUN echo 1 > /r1\nCOPY f /f\nCOPY --link f /linked\nRUN echo 4 > /r4\n"
OWN = 4


@pytest.fixture
def machines(tmp_path: Path, seed: Path) -> Iterator[Machines]:
    context = tmp_path / "context"
    context.mkdir()
    write_context(context, DOCKERFILE, {"f": "f"})
    made = Machines(tmp_path, seed, context)
    yield made
    made.close()


def layers(registry: FaultyRegistry, name: str) -> list[str]:
    """Return the digests of an image's layers."""
    _, text = registry.find(name) or ("", b"{}")
    return [layer["digest"] for layer in json.loads(text)["layers"]]


def of(exchanges: Sequence[Recorded], method: str, words: str = "") -> list[Recorded]:
    return [item for item in exchanges if item.method == method and words in item.path]


def test_a_push_mounts_what_the_cache_has_and_fetches_nothing(
    machines: Machines, faulty_registry: FaultyRegistry, tmp_path: Path
) -> None:
    address = faulty_registry.address
    cache = [["registry", {"ref": f"{address}/cache:cache"}]]
    push = [["image", {"name": f"{address}/app:1", "push": "true"}]]
    first = machines.build(machines.new(), cache_to=cache, outputs=[["image", {"name": "first"}]]).ok()
    own = layers(faulty_registry, "/v2/cache/manifests/cache")
    assert len(own) == OWN
    before = len(faulty_registry.asked())
    second = machines.build(machines.new(), cache_from=cache, outputs=push).ok()
    assert (second.made, second.warnings, second.digest) == ([], (), first.digest)
    asked = faulty_registry.asked()[before:]
    assert sorted(layers(faulty_registry, "/v2/app/manifests/1")[-OWN:]) == sorted(own)
    fetched = [item for item in of(asked, "GET", "/v2/cache/blobs/") if item.path.rpartition("/")[2] in own]
    assert [item.sent for item in fetched] == [1] * OWN, "the last byte of each"
    assert sorted(
        item.path.partition("mount=")[2][:71].replace("%3A", ":") for item in of(asked, "POST", "mount=")
    ) == sorted(own)
    assert {item.status for item in of(asked, "POST", "mount=")} == {201}
    assert len(of(asked, "PUT", "/blobs/")) == 2, "the base image, and the config"
    # The image is whole where it was pushed to: its layers come from there, also when the cache is gone.
    faulty_registry.rule("GET .*/v2/cache/", status(404))
    img = Img(machines.made[-1][2], tmp_path)
    assert len(ImageArchive(img.export(f"{address}/app:1", tmp_path / "saved.tar")).layers()) == OWN + 1


def test_a_cache_mounts_what_the_push_sent(machines: Machines, faulty_registry: FaultyRegistry) -> None:
    address = faulty_registry.address
    cache = [["registry", {"ref": f"{address}/cache:cache", "mode": "max"}]]
    machines.build(machines.new(), cache_to=cache, outputs=[["registry", {"name": f"{address}/app:1"}]]).ok()
    own = layers(faulty_registry, "/v2/cache/manifests/cache")
    mounted = of(faulty_registry.asked(), "POST", "/v2/cache/blobs/uploads/?")
    assert len([item for item in mounted if "mount=" in item.path and item.status == 201]) == len(own) == OWN
    assert len(of(faulty_registry.asked(), "PUT", "/v2/cache/blobs/")) == 2, "the configs of the segment and the whole"


@pytest.mark.parametrize("gone", ["one", "all"])
def test_what_is_gone_from_the_cache_is_made_again_before_the_push(
    machines: Machines, faulty_registry: FaultyRegistry, gone: str
) -> None:
    address = faulty_registry.address
    cache = [["registry", {"ref": f"{address}/cache:cache"}]]
    machines.build(machines.new(), cache_to=cache).ok()
    own = layers(faulty_registry, "/v2/cache/manifests/cache")
    for digest in own if gone == "all" else own[1:2]:
        faulty_registry.rule(f".*/v2/cache/blobs/{digest}", status(404))
    done = machines.build(machines.new(), cache_from=cache, outputs=[["registry", {"name": f"{address}/app:1"}]]).ok()
    assert done.made
    assert all("is not used for" in text for text in done.warnings)
    assert done.warnings
    pushed = layers(faulty_registry, "/v2/app/manifests/1")
    assert len(pushed) == OWN + 1
