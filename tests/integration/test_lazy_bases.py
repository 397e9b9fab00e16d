"""What a build downloads of its base images: only what some step or output really reads, and each layer once."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.img import Finished, Img, write_context
from harness.oci import ImageArchive
from harness.steps import made, statuses
from img_core.spec.values import Platform
from img_core.testing.faulty_registry import Exchange, FaultyRegistry, status
from img_core.testing.images import SmallImage, make_image, make_index, write_layout

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = [pytest.mark.registry, pytest.mark.rootless]

Build = Callable[..., Finished]  #: text of a Dockerfile, more arguments, `backend`, the command to use

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
        names: dict[str, str] = {
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

    def run(text: str, *arguments: str, backend: str = "overlayfs", refused: bool = False, on: Img = img) -> Finished:
        context.mkdir(exist_ok=True)
        write_context(context, bases.dockerfile(text), {"file": "content\n"})
        done = on.with_flags("-b", backend).run("build", *arguments, context)
        return done if refused else done.ok()

    return run


def pushed_layers(registry: FaultyRegistry, repository: str) -> list[str]:
    found = registry.find(f"/v2/{repository}/manifests/1")
    assert found is not None
    layers = [layer["digest"] for layer in json.loads(found[1])["layers"]]
    assert all(registry.find(f"/v2/{repository}/blobs/{digest}") for digest in layers), "the image is complete"
    return layers


def kept_layers(img: Img, image: SmallImage) -> set[str]:
    """Return the layers of *image* whose blobs are in the state directory."""
    kept = {f"sha256:{path.name}" for path in (img.state / "blobs" / "sha256").iterdir()}
    return kept & {layer.digest for layer in image.layers}


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
    assert not kept_layers(img, bases.base), "nothing was kept here"


@pytest.mark.parametrize("kind", ["image", "oci", "tar"])
@pytest.mark.parametrize("text", [METADATA, LINKED], ids=["metadata", "linked-copy"])
def test_an_output_that_holds_everything_fetches_each_layer_once(
    build: Build, bases: Bases, tmp_path: Path, text: str, kind: str
) -> None:
    whole = "type=image,name=app:1,store-allow-incomplete=false"
    build(text, "-o", whole if kind == "image" else f"type={kind},dest={tmp_path / 'out'}")
    assert bases.fetched() == EACH_OF_BASE


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("text", [METADATA, LINKED], ids=["metadata", "linked-copy"])
def test_an_image_built_and_pushed_beside_its_base_moves_no_base_layer(
    build: Build, bases: Bases, img: Img, text: str, backend: str
) -> None:
    first, second = (f"{bases.registry.address}/built/{name}:1" for name in ("first", "second"))
    build(text, "-t", first, backend=backend)
    build(f"FROM {first}\nENV B=2\n", "-t", second, backend=backend)
    img.run("rm", first).ok()
    img.run("prune", "--all").ok()
    assert second in img.names()
    img.run("push", second).ok()
    assert pushed_layers(bases.registry, "built/second")[:2] == [layer.digest for layer in bases.base.layers]
    assert bases.fetched() == {}
    assert not kept_layers(img, bases.base)


def test_an_image_pushed_to_another_registry_streams_what_its_build_left_once(
    build: Build, bases: Bases, other_registry: FaultyRegistry, img: Img
) -> None:
    name = f"{other_registry.address}/built/app:1"
    build(LINKED, "-t", name)
    assert bases.fetched() == {}
    img.run("push", name).ok()
    assert bases.fetched() == EACH_OF_BASE
    assert pushed_layers(other_registry, "built/app")[:2] == [layer.digest for layer in bases.base.layers]
    assert not kept_layers(img, bases.base), "nothing was kept here"


def test_layers_of_an_image_layout_are_kept_although_a_registry_had_them(
    build: Build, bases: Bases, img: Img, tmp_path: Path
) -> None:
    """What is at hand is taken: the directory may be gone tomorrow, and a registry may be out of reach today."""
    build(METADATA, "-o", "type=registry,name=" + f"{bases.registry.address}/built/app:1")
    write_layout(tmp_path / "layout", {"base": bases.base, "second": bases.second})
    context = [f"--build-context={name}=oci-layout://{tmp_path / 'layout'}:{name}" for name in ("base", "second")]
    build("FROM second\nENV A=2\n", *context, "-o", f"type=registry,name={bases.registry.address}/fresh/app:1")
    assert pushed_layers(bases.registry, "fresh/app") == [layer.digest for layer in bases.second.layers]
    build("FROM base\nENV A=3\n", *context, "-t", "app:1")
    assert kept_layers(img, bases.base) == {layer.digest for layer in bases.base.layers}
    assert bases.fetched() == {}


@pytest.mark.parametrize("action", ["save", "unpack", "oci", "from", "copy", "context"])
def test_whatever_reads_layers_that_were_left_fetches_them_once_and_makes_the_same(
    build: Build, bases: Bases, img: Img, tmp_path: Path, action: str
) -> None:
    whole = replace(img, state=img.state.with_name("whole"))
    dated = (METADATA, "--build-arg", "SOURCE_DATE_EPOCH=1")
    build(*dated, "-o", "type=image,name=app:1,store-allow-incomplete=false", on=whole)
    build(*dated, "-t", "app:1")
    assert bases.fetched() == EACH_OF_BASE, "for the whole one"
    assert img.run("inspect", "app:1").ok().text == whole.run("inspect", "app:1").ok().text
    expected = read_by(action, build, whole, tmp_path / "expected")
    assert read_by(action, build, img, tmp_path / "found") == expected
    assert bases.fetched() == EACH_OF_BASE
    assert kept_layers(img, bases.base) == {layer.digest for layer in bases.base.layers}
    img.run("prune", "--all").ok()
    assert img.run("save", "app:1").ok().stdout == whole.run("save", "app:1").ok().stdout
    assert bases.fetched() == {}, "what a listed image names stays"


def read_by(action: str, build: Build, img: Img, place: Path) -> object:
    """Let *action* read the image app:1; return what it made of it, to compare."""
    if action == "save":
        return img.run("save", "app:1").ok().stdout
    if action == "unpack":
        img.run("unpack", "-o", place, "app:1").ok()
        return {path.relative_to(place): path.is_dir() or path.read_bytes() for path in place.rglob("*")}
    if action == "oci":
        return build("FROM app:1\n", "--build-arg", "SOURCE_DATE_EPOCH=1", "-o", "type=oci,dest=-", on=img).stdout
    texts = {
        "from": "FROM app:1\nCOPY file /more\n",
        "copy": "FROM scratch\nCOPY --from=app:1 /one /two /\n",
        "context": "FROM scratch\nCOPY --from=named /two /\n",
    }
    context = ("--build-context", "named=docker-image://app:1")
    archive = build(texts[action], *context, "-o", "type=tar,dest=-", on=img).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: member.isdir() or tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_a_layer_that_its_registry_does_not_give_any_more_is_told_and_nothing_is_lost(
    build: Build, bases: Bases, other_registry: FaultyRegistry, img: Img, tmp_path: Path
) -> None:
    build(LINKED, "-t", "app:1")
    img.run("tag", "app:1", f"{other_registry.address}/app:1").ok()
    bases.registry.rule("/blobs/", status(404))
    told = ("layer sha256:", "app:1", f"{bases.registry.address}/library/base")
    img.run("save", "-o", tmp_path / "archive.tar", "app:1").refused(6, *told)
    img.run("unpack", "-o", tmp_path / "root", "app:1").refused(6, *told)
    build("FROM app:1\nCOPY file /more\n", "-t", "more:1", refused=True).refused(6, *told)
    img.run("push", f"{other_registry.address}/app:1").refused(6, *told)
    assert not (tmp_path / "archive.tar").exists()
    assert not (tmp_path / "root").exists()
    assert "docker.io/library/more:1" not in img.names()
    bases.registry.heal()
    img.run("save", "-o", tmp_path / "archive.tar", "app:1").ok()


def test_all_platforms_that_were_left_are_fetched_before_an_image_is_saved(
    build: Build, bases: Bases, img: Img
) -> None:
    names = ("amd64", "arm64")
    images = [make_image([{name: name.encode()}], platform=Platform("linux", name)) for name in names]
    bases.registry.add("library/base", "1", make_index(images))
    build(METADATA, "--platform", "linux/amd64,linux/arm64", "-t", "app:1")
    layers = {image.layers[0].digest.removeprefix("sha256:") for image in images}
    with tarfile.open(fileobj=io.BytesIO(img.run("save", "app:1").ok().stdout)) as tar:
        assert layers <= {name.rpartition("/")[2] for name in tar.getnames()}
    asked = [item.path.rpartition("sha256:")[2] for item in bases.registry.asked("^GET .*/blobs/")]
    assert sorted(set(asked) & layers) == sorted(digest for digest in asked if digest in layers), "each once"


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


def test_a_tag_that_moved_is_noticed_by_the_next_build(build: Build, bases: Bases, img: Img) -> None:
    text = "FROM {base}\nCOPY file /c\n"
    assert made(build(text, "-t", "x", "--progress", "plain").stderr) != []
    bases.registry.requests.clear()
    assert made(build(text, "-t", "x", "--progress", "plain").stderr) == []
    assert [str(item) for item in bases.registry.asked("manifests|blobs")] == ["HEAD /v2/library/base/manifests/1"], (
        "one request says that it did not move"
    )
    bases.registry.add("library/base", "1", make_image([{"newer": b"1"}]))
    assert made(build(text, "-t", "x", "--progress", "plain").stderr) != []
    assert "newer" in ImageArchive(img.export("x", img.home / "x.tar")).tree()


def test_a_tag_is_trusted_as_long_as_was_configured(build: Build, bases: Bases, img: Img) -> None:
    config = img.home / ".config" / "img" / "config.toml"
    config.parent.mkdir(parents=True)
    text = "FROM {base}\nLABEL a=b\n"
    build(text, "-t", "x")
    for seconds, requests in ((3600, 0), (0.001, 1)):
        config.write_text(f"[images]\ntrust-tags = {seconds}\n")
        bases.registry.requests.clear()
        build(text, "-t", "x")
        assert len(bases.registry.asked("manifests")) == requests


@pytest.mark.parametrize("fault", ["refuses", "cuts", "fails"])
def test_what_a_tag_meant_is_used_with_a_warning_when_its_registry_does_not_answer(
    build: Build, bases: Bases, fault: str
) -> None:
    text = "FROM {base}\nCOPY file /c\n"
    build(text, "-t", "x")
    if fault == "refuses":
        bases.registry.__exit__(None, None, None)
    else:
        bases.registry.rule("", (lambda exchange: exchange.reset()) if fault == "cuts" else status(503))
    done = build(text, "-t", "x", "--progress", "plain")
    (warning,) = [line for line in done.stderr.splitlines() if "may have moved" in line]
    assert f"{bases.registry.address}/library/base:1" in warning
    assert bases.base.top.digest in warning
    build(text, "-t", "x", "--pull", refused=True).refused(6)


@pytest.mark.parametrize("wait", ["COPY file /c", "COPY --from={second} /three /copied"], ids=["base", "source"])
def test_the_time_of_a_step_is_not_that_of_the_image_it_waits_for(build: Build, bases: Bases, wait: str) -> None:
    delay = 3.0

    def serve_late(exchange: Exchange) -> None:
        threading.Event().wait(delay)
        exchange.serve()

    for image in (bases.base, bases.second):
        bases.registry.rule(f"^GET .*/blobs/{image.layers[1].digest}$", serve_late)
    log = build(f"FROM {{base}}\n{wait}\n", "-o", "type=tar,dest=/dev/null", "--progress", "plain").stderr
    number = re.findall(r"^#(\d+) \[2/2\] COPY", log, re.MULTILINE)[0]
    (seconds,) = re.findall(rf"^#{number} DONE ([\d.]+)s", log, re.MULTILINE)
    assert float(seconds) < delay, log


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
