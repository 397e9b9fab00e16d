"""Pull and push under load, interruption and lies, with the real command: what people rely on in CI."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.containers import Containers
from harness.img import Img, write_context
from harness.kept import keep
from harness.processes import AT_ONCE, run_and_watch
from img_core.images import oci
from img_core.spec.values import Descriptor
from img_core.store import Store
from img_core.testing.faulty_registry import Exchange, FaultyRegistry, reply, stall
from img_core.testing.images import SmallImage, make_image, make_index, tar_layer
from img_core.testing.registry import DockerRegistry

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.registry


@pytest.fixture
def empty(tmp_path: Path) -> Img:
    (tmp_path / "home").mkdir()
    return Img(tmp_path / "state", tmp_path / "home")


def blobs_of(img: Img) -> set[str]:
    directory = img.state / "blobs/sha256"
    return set(os.listdir(directory)) if directory.exists() else set()


def largest(image: SmallImage) -> str:
    return max(image.layers, key=lambda layer: layer.size).digest


# --- images of other tools ------------------------------------------------------------------------------------------------


def make_with_umoci(containers: Containers, registry: DockerRegistry, files: Path, directory: Path) -> str:
    layout = directory / "layout"
    containers.run("umoci", "init", "--layout", layout)
    containers.run("umoci", "new", "--image", f"{layout}:1")
    containers.run("umoci", "insert", "--rootless", "--image", f"{layout}:1", files, "/data")
    target = f"{registry.address}/umoci/app:1"
    containers.run("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}:1", f"docker://{target}")
    return target


def test_layers_that_umoci_inserted_are_unpacked_and_saved(
    empty: Img, registry: DockerRegistry, containers: Containers, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    (files / "directory").mkdir(parents=True)
    (files / "a").write_text("content")
    (files / "directory/link").symlink_to("../a")
    name = make_with_umoci(containers, registry, files, tmp_path)
    empty.run("pull", name).ok()
    empty.run("save", "--format", "oci", "-o", tmp_path / "ours.tar", name).ok()
    containers.take(tmp_path / "ours.tar", "localhost/umoci")
    empty.run("unpack", "-o", tmp_path / "rootfs", name).ok()
    assert (tmp_path / "rootfs/data/directory/link").read_text() == "content"


# --- again ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["image", "index"])
def test_an_image_that_did_not_change_costs_one_request_that_is_no_pull(
    kind: str, empty: Img, faulty_registry: FaultyRegistry
) -> None:
    name = f"{faulty_registry.address}/app:1"
    blobs = ["GET blobs"] * 2
    everything = ["GET manifests", *blobs] if kind == "image" else ["GET manifests", "GET manifests", *blobs]
    old, new = (make_image([{"a": text}]) for text in (b"1", b"2"))
    for image, expected in ((old, everything), (old, ["HEAD manifests"]), (new, ["HEAD manifests", *everything])):
        served = make_index([image]) if kind == "index" else image
        faulty_registry.add("app", "1", served)
        faulty_registry.requests.clear()
        empty.run("pull", name).ok()
        assert [f"{item.method} {item.path.split('/')[3]}" for item in faulty_registry.asked()] == expected
        assert empty.digest(name) == served.top.digest


def test_what_is_kept_here_is_not_pulled_from_a_repository_that_lacks_it(
    empty: Img, faulty_registry: FaultyRegistry
) -> None:
    image = make_image()
    faulty_registry.add("app", "1", image)
    empty.run("pull", f"{faulty_registry.address}/app:1").ok()
    empty.run("pull", f"{faulty_registry.address}/app@{image.top.digest}").ok()
    empty.run("pull", f"{faulty_registry.address}/misspelt@{image.top.digest}").refused(1, "not found")


def test_a_registry_that_answers_no_head_requests_is_pulled_from_again(
    empty: Img, faulty_registry: FaultyRegistry
) -> None:
    image = make_image()
    name = f"{faulty_registry.address}/app:1"
    faulty_registry.add("app", "1", image)
    faulty_registry.rule("HEAD", reply(405))
    for _ in range(2):
        empty.run("pull", name).ok()
    assert len(faulty_registry.asked("GET /v2/app/manifests/1")) == 2


# --- several at once ------------------------------------------------------------------------------------------------------


def test_two_pulls_at_once_fetch_each_blob_once(empty: Img, faulty_registry: FaultyRegistry) -> None:
    image = make_image([{f"{number}": os.urandom(2_000_000)} for number in range(6)])
    faulty_registry.add("app", "1", image)
    name = f"{faulty_registry.address}/app:1"
    running = [empty.start("pull", name, log=empty.home / f"log{number}") for number in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    for layer in image.layers:
        assert len(faulty_registry.asked(f"GET /v2/app/blobs/{layer.digest}")) == 1
    empty.run("unpack", "-o", empty.home / "rootfs", name).ok()


def test_a_hundred_layers_there_and_back(empty: Img, registry: DockerRegistry) -> None:
    image = make_image([{f"file{number}": b"%d" % number, "last": b"%d" % number} for number in range(100)])
    source = registry.add("many", "1", image)
    empty.run("pull", source).ok()
    empty.run("tag", source, f"{registry.address}/other:1").ok()
    empty.run("push", f"{registry.address}/other:1").ok()
    empty.run("unpack", "-o", empty.home / "rootfs", source).ok()
    assert (empty.home / "rootfs/last").read_text() == "99"
    assert len(os.listdir(empty.home / "rootfs")) == 101


def name_images(img: Img, count: int) -> None:
    """Give *count* names to as many images, as so many builds would."""
    keep(img, {f"docker.io/library/app:{number:04}": make_image([{"f": b"%d" % number}]) for number in range(count)})


def test_five_hundred_tags_are_listed_saved_and_removed(empty: Img) -> None:
    name_images(empty, 1)
    with Store(str(empty.state)) as store:
        found = store.images.get("docker.io/library/app:0000").descriptor
        for number in range(500):
            store.images.tag(f"docker.io/library/tag:{number}", found)
    assert len(empty.names()) == 501
    empty.run("save", "-o", empty.home / "out.tar", *[f"tag:{number}" for number in range(500)]).ok()
    assert (empty.home / "out.tar").stat().st_size < 500_000
    empty.run("rm", "tag:*").ok()
    assert len(empty.names()) == 1


def test_a_thousand_images_are_listed_at_once(empty: Img) -> None:
    name_images(empty, 1000)
    used = []
    for _ in range(3):
        process = empty.start("ls")
        _, outcome, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(outcome)
        assert process.returncode == 0
        used.append(usage.ru_utime + usage.ru_stime)
    assert min(used) < 0.2, used  # CPU time: 150 ms on a quiet machine
    assert len(empty.names()) == 1000


# --- interrupted ------------------------------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_pull_leaves_no_image_and_goes_on(
    signum: signal.Signals, empty: Img, faulty_registry: FaultyRegistry
) -> None:
    image = make_image([{"small": os.urandom(100_000)}, {"big": os.urandom(4_000_000)}])
    small = min(image.layers, key=lambda layer: layer.size).digest
    partial = empty.state / "ingest" / largest(image).removeprefix("sha256:")
    faulty_registry.add("app", "1", image)
    name = f"{faulty_registry.address}/app:1"
    faulty_registry.rule(f"GET /v2/app/blobs/{largest(image)}", stall(3_000_000), times=1)
    with empty.start("pull", name) as process:
        wait_until(lambda: small.removeprefix("sha256:") in blobs_of(empty), process)
        wait_until(lambda: partial.exists() and partial.stat().st_size == 3_000_000, process)
        process.send_signal(signum)
        ended = process.wait(AT_ONCE)
    assert ended == (-signum if signum == signal.SIGKILL else 128 + signum)
    assert empty.names() == []
    assert largest(image).removeprefix("sha256:") not in blobs_of(empty)
    empty.run("pull", name).ok()
    assert len(faulty_registry.asked(f"GET /v2/app/blobs/{small}")) == 1
    again = faulty_registry.asked(f"GET /v2/app/blobs/{largest(image)}")[1]
    assert again.headers["range"].startswith("bytes=3000000-"), "what arrived of a layer is used, too"
    empty.run("unpack", "-o", empty.home / "rootfs", name).ok()
    empty.run("rm", name).ok()
    empty.run("prune", "--all").ok()
    assert blobs_of(empty) == set()
    assert os.listdir(empty.state / "run") == []


@pytest.mark.rootless
def test_a_killed_build_goes_on_in_the_middle_of_a_layer_of_its_base(
    empty: Img, faulty_registry: FaultyRegistry, tmp_path: Path
) -> None:
    image = make_image([{"big": os.urandom(4_000_000)}])
    partial = empty.state / "ingest" / largest(image).removeprefix("sha256:")
    faulty_registry.add("app", "1", image)
    faulty_registry.rule(f"GET /v2/app/blobs/{largest(image)}", stall(3_000_000), times=1)
    context = write_context(
        tmp_path / "context", f"FROM {faulty_registry.address}/app:1 AS base\nFROM base\nCOPY --from=base /big /copy\n"
    )
    with empty.start("build", "-t", "built", context) as process:
        wait_until(lambda: partial.exists() and partial.stat().st_size == 3_000_000, process)
        process.kill()
    empty.build(context).ok()
    again = faulty_registry.asked(f"GET /v2/app/blobs/{largest(image)}")[1]
    assert again.headers["range"].startswith("bytes=3000000-")


def test_an_interrupted_push_gives_no_name_and_goes_on(
    empty: Img, registry: DockerRegistry, faulty_registry: FaultyRegistry
) -> None:
    image = make_image([{"small": os.urandom(100_000)}, {"big": os.urandom(1_000_000)}])
    source, target = registry.add("app", "1", image), f"{faulty_registry.address}/app:1"
    empty.run("pull", source).ok()
    empty.run("tag", source, target).ok()

    def hang(exchange: Exchange) -> None:
        if int(exchange.request.headers.get("content-length", "0")) > 500_000:
            time.sleep(3)
        exchange.serve()

    faulty_registry.rule("PATCH", hang, times=2)  # the config goes with its digest
    with empty.start("push", target) as process:
        wait_until(lambda: len(faulty_registry.asked("PATCH")) == 2, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert faulty_registry.find("/v2/app/manifests/1") is None
    empty.run("push", target).ok()
    assert faulty_registry.find("/v2/app/manifests/1") is not None


# --- lies ---------------------------------------------------------------------------------------------------------------------


def test_a_truncated_layer_is_named_when_it_is_unpacked(empty: Img, faulty_registry: FaultyRegistry) -> None:
    whole = gzip.compress(tar_layer({"file": os.urandom(100_000)}))
    layer = whole[:-20_000]
    image = make_image([{"a": b"1"}])
    document = json.loads(image.content)
    document["layers"] = [{"mediaType": oci.OCI_LAYER_GZIP, "digest": oci.digest(layer), "size": len(layer)}]
    faulty_registry.add("app", "1", image)
    faulty_registry.add_blob("app", layer)
    faulty_registry.add_manifest("app", "broken", oci.OCI_MANIFEST, oci.canonical_json(document))
    name = f"{faulty_registry.address}/app:broken"
    empty.run("pull", name).ok()
    done = empty.run("unpack", "-o", empty.home / "rootfs", name)
    done.refused(1, oci.digest(layer))
    assert not (empty.home / "rootfs").exists()


def test_a_token_that_expires_in_the_middle_of_a_push_is_renewed(
    empty: Img, registry: DockerRegistry, faulty_registry: FaultyRegistry
) -> None:
    source = registry.add("app", "1", make_image([{str(number): b"x"} for number in range(24)]))
    target = f"{faulty_registry.address}/app:1"
    empty.run("pull", source).ok()
    empty.run("tag", source, target).ok()
    left: dict[str, int] = {}

    def token(exchange: Exchange) -> None:
        name = f"T{len(left)}"
        left[f"Bearer {name}"] = 16  # more than all others can send between a login and the request that it was for
        exchange.answer(200, f'{{"token":"{name}","expires_in":300}}'.encode())

    def api(exchange: Exchange) -> None:
        shown = exchange.request.headers.get("authorization", "")
        if left.get(shown, 0) > 0:
            left[shown] -= 1
            exchange.serve()
        else:
            exchange.answer(401, b"", {"WWW-Authenticate": f'Bearer realm="{faulty_registry.url}/token"'})

    faulty_registry.rule("GET /token", token)
    faulty_registry.rule("/v2/", api)
    empty.run("push", target).ok()
    assert len(left) >= 4


# --- large --------------------------------------------------------------------------------------------------------------------


def zeros_image(size: int) -> tuple[SmallImage, str]:
    """Return an image with one more layer, of *size* zero bytes, that no blob of it holds; and the digest of that layer."""
    block = bytes(1 << 20)
    hasher = hashlib.sha256()
    for _ in range(size >> 20):
        hasher.update(block)
    digest = f"sha256:{hasher.hexdigest()}"
    small = make_image([{"a": b"1"}], compress=False)
    assert small.config is not None
    config = small.blobs[small.config.digest].replace(small.layers[0].digest.encode(), digest.encode())
    document = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "config": {"mediaType": oci.OCI_CONFIG, "digest": oci.digest(config), "size": len(config)},
        "layers": [{"mediaType": oci.OCI_LAYER, "digest": digest, "size": size}],
    }
    content = oci.canonical_json(document)
    top = Descriptor(oci.OCI_MANIFEST, oci.digest(content), len(content))
    return SmallImage(top, {oci.digest(config): config, top.digest: content}), digest


@pytest.mark.slow
def test_a_huge_layer_moves_through_little_memory(empty: Img, faulty_registry: FaultyRegistry) -> None:
    size = int(os.environ.get("IMG_TEST_LARGE_LAYER_GIB", "1")) << 30  # the server makes it up and keeps nothing of it
    image, digest = zeros_image(size)

    def serve(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Length": str(size)})
        block = bytes(1 << 20)
        for _ in range(size >> 20):
            if not exchange.write(block):
                return

    faulty_registry.add("app", "1", image)
    faulty_registry.rule(f"GET /v2/app/blobs/{digest}", serve)
    faulty_registry.rule(f"PUT /v2/app/blobs/uploads/.*digest={digest}", reply(201))
    name = f"{faulty_registry.address}/app:1"
    assert run_and_watch(empty, empty.home / "log", "pull", name) < 100e6
    assert run_and_watch(empty, empty.home / "log", "push", name) < 100e6
    (sent,) = [request for request in faulty_registry.asked("PATCH") if request.digest]
    assert sent.digest == digest
    shutil.rmtree(empty.state)  # pytest would keep it


# --- damage -------------------------------------------------------------------------------------------------------------------


def test_a_layer_that_changed_on_disk_is_named_and_fetched_again(
    empty: Img, registry: DockerRegistry, faulty_registry: FaultyRegistry
) -> None:
    image = make_image([{"a": os.urandom(200_000)}])
    source, target = registry.add("app", "1", image), f"{faulty_registry.address}/app:1"
    layer = image.layers[0].digest
    stored = empty.state / "blobs/sha256" / layer.removeprefix("sha256:")

    def damage() -> None:
        empty.run("pull", source).ok()
        content = bytearray(stored.read_bytes())
        content[100_000] ^= 1
        stored.write_bytes(content)

    damage()
    empty.run("unpack", "-o", empty.home / "rootfs", source).refused(1, f"blob {layer} is damaged on disk")
    damage()
    empty.run("tag", source, target).ok()
    empty.run("push", target).refused(1, f"blob {layer} is damaged on disk")
    empty.run("pull", source).ok()
    empty.run("unpack", "-o", empty.home / "rootfs", source).ok()
    empty.run("push", target).ok()
