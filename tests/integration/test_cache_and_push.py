"""A cache and an image in one registry: what one has is mounted by the other, and a layer that nobody reads never comes here."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness.img import Img, write_context
from harness.machines import Machines
from harness.oci import ImageArchive
from harness.processes import wait_until
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
    assert not [item for item in of(asked, "GET", "/v2/app/blobs/") if item.path.rpartition("/")[2] in own]
    mounted = of(asked, "POST", "from=cache")
    assert sorted(item.path.partition("mount=")[2][:71] for item in mounted) == sorted(own)
    assert {item.status for item in mounted} == {201}
    # What no cache has, and is small, is asked for in the image's own repository, by a request that begins its upload.
    assert {item.status for item in of(asked, "POST") if item not in mounted} == {202}
    assert len(of(asked, "PUT", "/blobs/")) == 2, "the base image, and the config"
    # The image is whole where it was pushed to: its layers come from there, also when the cache is gone.
    faulty_registry.rule("GET .*/v2/cache/", status(404))
    img = Img(machines.made[-1][2], tmp_path)
    assert len(ImageArchive(img.export(f"{address}/app:1", tmp_path / "saved.tar")).layers()) == OWN + 1


def test_of_a_cache_and_a_push_one_mounts_what_the_other_sent(
    machines: Machines, faulty_registry: FaultyRegistry
) -> None:
    address = faulty_registry.address
    cache = [["registry", {"ref": f"{address}/cache:cache", "mode": "max"}]]
    machines.build(machines.new(), cache_to=cache, outputs=[["registry", {"name": f"{address}/app:1"}]]).ok()
    own = layers(faulty_registry, "/v2/cache/manifests/cache")
    asked = [item for item in faulty_registry.asked() if item.status == 201]
    assert len(of(asked, "POST", "mount=")) == len(own) == OWN, "whichever was the first"
    assert len(of(asked, "PUT", "/blobs/")) == OWN + 4, (
        "each once, the base, and configs of the image and two documents"
    )


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


@pytest.mark.parametrize("end", ["exit 0", "exit 1"], ids=["good", "failed"])
def test_layers_are_sent_while_the_build_goes_on(machines: Machines, faulty_registry: FaultyRegistry, end: str) -> None:
    """The second step waits until the layer of the first is in the registry. A build that fails leaves no document."""
    cache = [["registry", {"ref": f"{faulty_registry.address}/cache:cache", "mode": "max"}]]
    wait = f"i=0; until [ -e /k/go ] || [ $i = 600 ]; do sleep 0.1; i=$((i+1)); done; [ -e /k/go ] && {end}"
    text = f"FROM busybox\nRUN echo 1 > /r1\nRUN --mount=type=cache,target=/k touch /r2; {wait}\n"
    write_context(machines.context, text, {})
    state = machines.directory / "machine-0" / "state"

    def sent() -> list[Recorded]:
        return [item for item in faulty_registry.asked() if item.method in ("POST", "PUT") and item.status == 201]

    def let_go() -> None:
        wait_until(lambda: bool(sent()), "a layer is sent", seconds=50)
        wait_until(lambda: bool(list(state.glob("cache-mounts/*"))), "the step runs", seconds=50)
        (next(state.glob("cache-mounts/*")) / "go").touch()

    machine = machines.new()
    assert state == machines.made[0][2]
    helper = threading.Thread(target=let_go)
    helper.start()
    done = machines.build(machine, cache_to=cache)
    helper.join()
    if end == "exit 1":
        assert done.code == 4, str(done)
        assert faulty_registry.manifests() == []
    else:
        done.ok()
        assert len(sent()) == 2 + 2 + 2, "each layer once, and two documents, which are a config and a manifest"
