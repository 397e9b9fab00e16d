"""What a build downloads of its base images: only what some step or output really reads, and each layer once."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.img import Finished, Img, write_context
from harness.steps import made, statuses
from img_core.testing.faulty_registry import Exchange, FaultyRegistry, status
from img_core.testing.images import SmallImage, make_image

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = [pytest.mark.registry, pytest.mark.rootless]

Build = Callable[..., Finished]  #: text of a Dockerfile, more arguments, `backend`

BACKENDS = ["overlayfs", "native"]
METADATA = "FROM {base}\nENV A=1\nLABEL b=2\nUSER joe\n"
LINKED = "FROM {base}\nCOPY --link file /new/file\nENV A=1\nCOPY --link --chmod=600 file /second\n"
PLAIN = "FROM {base}\nCOPY file /new/file\n"
OTHER_STAGE = "FROM {base} AS other\nFROM {second}\nCOPY --link --from=other /one /copied\n"
UNUSED_STAGE = "FROM {base} AS unused\nFROM {second}\nCOPY --link file /file\n"


@dataclass(frozen=True, slots=True)
class Bases:
    """A registry with two images of two layers each, and what was asked of it."""

    registry: FaultyRegistry
    base: SmallImage
    second: SmallImage

    def dockerfile(self, text: str) -> str:
        names = {name: f"{self.registry.address}/library/{name}:1" for name in ("base", "second")}
        return text.format(**names)

    def fetched(self) -> Counter[str]:
        """Return how often each layer was downloaded, by the name of its image and its number; and forget it."""
        names = {
            layer.digest: f"{name} {number}"
            for name, image in (("base", self.base), ("second", self.second))
            for number, layer in enumerate(image.layers)
        }
        asked = [item.path.rpartition("/")[2] for item in self.registry.asked("^GET .*/blobs/")]
        self.registry.requests.clear()
        return Counter(names[digest] for digest in asked if digest in names)


@pytest.fixture
def bases(faulty_registry: FaultyRegistry) -> Bases:
    base = make_image([{"one": b"1"}, {"two": os.urandom(300_000)}])
    second = make_image([{"three": b"3"}, {"four": os.urandom(300_000)}])
    faulty_registry.add("library/base", "1", base)
    faulty_registry.add("library/second", "1", second)
    return Bases(faulty_registry, base, second)


@pytest.fixture
def other_registry() -> Iterator[FaultyRegistry]:
    with FaultyRegistry() as running:
        yield running


@pytest.fixture
def build(bases: Bases, tmp_path: Path, img: Img) -> Build:
    context = tmp_path / "context"

    def run(text: str, *arguments: str, backend: str = "overlayfs", refused: bool = False) -> Finished:
        context.mkdir(exist_ok=True)
        write_context(context, bases.dockerfile(text), {"file": "content\n"})
        done = img.with_flags("-b", backend).run("build", *arguments, context)
        return done if refused else done.ok()

    return run


def pushed_layers(registry: FaultyRegistry, repository: str) -> list[str]:
    found = registry.find(f"/v2/{repository}/manifests/1")
    assert found is not None
    layers = [layer["digest"] for layer in json.loads(found[1])["layers"]]
    assert all(registry.find(f"/v2/{repository}/blobs/{digest}") for digest in layers), "the image is complete"
    return layers


EACH_OF_BASE = {"base 0": 1, "base 1": 1}
EACH_OF_SECOND = {"second 0": 1, "second 1": 1}


@pytest.mark.parametrize(
    ("text", "needed", "base", "backend"),
    [
        pytest.param(METADATA, {}, "base", "overlayfs", id="metadata"),
        pytest.param(LINKED, {}, "base", "overlayfs", id="linked-copy"),
        pytest.param(LINKED, {}, "base", "native", id="linked-copy-native"),
        pytest.param(UNUSED_STAGE, {}, "second", "overlayfs", id="unused-stage"),
        pytest.param(OTHER_STAGE, EACH_OF_BASE, "second", "overlayfs", id="files-of-another-stage"),
        pytest.param(PLAIN, EACH_OF_BASE, "base", "overlayfs", id="plain-copy"),
    ],
)
def test_a_push_to_the_same_registry_fetches_what_steps_read(
    build: Build, bases: Bases, text: str, needed: dict[str, int], base: str, backend: str
) -> None:
    name = f"{bases.registry.address}/built/app:1"
    build(text, "-o", f"type=registry,name={name}", backend=backend)
    assert bases.fetched() == needed
    expected = [layer.digest for layer in getattr(bases, base).layers]
    assert pushed_layers(bases.registry, "built/app")[:2] == expected
    again = build(text, "-o", f"type=registry,name={name}", backend=backend)
    assert bases.fetched() == {}
    assert made(again.stderr) == []


@pytest.mark.parametrize("text", [METADATA, LINKED], ids=["metadata", "linked-copy"])
def test_a_push_to_another_registry_streams_each_layer_through_once(
    build: Build, bases: Bases, other_registry: FaultyRegistry, img: Img, text: str
) -> None:
    name = f"{other_registry.address}/built/app:1"
    build(text, "-o", f"type=registry,name={name}")
    assert bases.fetched() == EACH_OF_BASE
    assert pushed_layers(other_registry, "built/app")[:2] == [layer.digest for layer in bases.base.layers]
    kept = {path.name for path in (img.state / "blobs" / "sha256").iterdir()}
    assert not kept & {layer.digest.removeprefix("sha256:") for layer in bases.base.layers}, "nothing was kept here"


@pytest.mark.parametrize("kind", ["image", "oci", "tar"])
@pytest.mark.parametrize("text", [METADATA, LINKED], ids=["metadata", "linked-copy"])
def test_an_output_that_holds_everything_fetches_each_layer_once(
    build: Build, bases: Bases, tmp_path: Path, text: str, kind: str
) -> None:
    build(text, "-o", "type=image,name=app:1" if kind == "image" else f"type={kind},dest={tmp_path / 'out'}")
    assert bases.fetched() == EACH_OF_BASE


@pytest.mark.parametrize("backend", BACKENDS)
def test_linked_layers_show_where_files_are_read(build: Build, bases: Bases, backend: str) -> None:
    text = LINKED + "COPY file /plain\nCOPY --link file /last\n"
    archive = build(text, "-o", "type=tar,dest=-", backend=backend).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert set(tar.getnames()) >= {"one", "two", "new/file", "second", "plain", "last"}
    assert bases.fetched() == EACH_OF_BASE


def test_a_linked_copy_is_cached_when_nothing_changed(build: Build) -> None:
    output = ("-o", "type=tar,dest=/dev/null")
    text = LINKED + "COPY file /plain\n"
    assert len([name for name in made(build(text, *output).stderr) if "LINK" in name]) == 2
    again = build(text, *output).stderr
    assert made(again) == []
    assert len([name for name in statuses(again) if "LINK" in name]) == 2


def test_a_linked_layer_is_not_found_on_another_root(build: Build, bases: Bases) -> None:
    """The native snapshotter keeps whole trees: the same layer on the base alone is another one."""
    build("FROM {base}\nCOPY --link file /linked\n", "-o", "type=tar,dest=/dev/null", backend="native")
    text = "FROM {base}\nCOPY file /first\nCOPY --link file /linked\n"
    archive = build(text, "-o", "type=tar,dest=-", backend="native").stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert set(tar.getnames()) >= {"one", "first", "linked"}


def test_base_images_are_looked_up_at_the_same_time(build: Build, bases: Bases) -> None:
    both = threading.Barrier(2)

    def answer_together(exchange: Exchange) -> None:
        both.wait(30)  # who comes alone waits in vain
        exchange.serve()

    bases.registry.rule("^GET .*/manifests/1$", answer_together)
    build(OTHER_STAGE, "-o", "type=tar,dest=/dev/null")
    assert len(bases.registry.asked("^GET .*/manifests/")) == 2


def test_a_base_image_that_is_missing_is_asked_for_once_and_told_where_it_is_used(build: Build, bases: Bases) -> None:
    bases.registry.rule("second/manifests", status(404))
    done = build(OTHER_STAGE, "-o", "type=tar,dest=/dev/null", refused=True)
    assert "library/second:1: not found" in done.error
    assert "Dockerfile:2" in done.stderr
    assert len(bases.registry.asked("second/manifests")) == 1


@pytest.mark.parametrize(
    "instruction",
    ["COPY --from={second} /three /copied", "RUN --mount=from={second},target=/m true"],
    ids=["copy", "mount"],
)
def test_the_base_arrives_while_the_image_that_is_copied_from_does(
    build: Build, bases: Bases, instruction: str
) -> None:
    both = threading.Barrier(2)

    def send_together(exchange: Exchange) -> None:
        both.wait(30)  # who comes alone waits in vain
        exchange.serve()

    for image in (bases.base, bases.second):
        bases.registry.rule(f"^GET .*/blobs/{image.layers[1].digest}$", send_together)
    refused = instruction.startswith("RUN")  # there is no shell in the base
    build(f"FROM {{base}}\n{instruction}\n", "-o", "type=tar,dest=/dev/null", refused=refused)
    assert bases.fetched() == {**EACH_OF_BASE, **EACH_OF_SECOND}
