"""Builds on several machines that share a cache: with the real registry, a directory, and in the image itself."""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.fixtures import NewState
from harness.img import Finished, Img, write_context
from harness.steps import made
from img_core.testing.faulty_registry import Exchange, FaultyRegistry, cut_after, reply, status
from img_core.testing.registry import Authority, DockerRegistry

pytestmark = [pytest.mark.rootless, pytest.mark.registry]

DOCKERFILE = """\
FROM busybox AS base
RUN echo base > /base
FROM base AS tool
COPY src /src
RUN cat /src/a > /built && echo tool > /tool
FROM base
WORKDIR /w
COPY --from=tool /built /w/built
COPY plain /w/plain
RUN cat /w/built /w/plain > /w/all
"""
FILES = {"src/a": "a\n", "src/b": "b\n", "plain": "plain\n"}
STEPS = 7

PLATFORMS = """\
FROM --platform=$BUILDPLATFORM busybox AS tool
ARG TARGETARCH
RUN echo $TARGETARCH > /built
FROM scratch
COPY --from=tool /built /built
COPY plain /plain
"""


@dataclass(frozen=True, slots=True)
class Cache:
    """One kind of cache: what stands after the flags, and how the built image is named."""

    to: str
    source: str
    tag: str = "built"
    push: bool = False


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with DockerRegistry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    return write_context(directory, DOCKERFILE, dict(FILES))


@pytest.fixture(params=["registry", "local", "inline"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cache(kind: str, registry: DockerRegistry, tmp_path: Path) -> Cache:
    name = f"{registry.address}/{re.sub('[^a-z0-9]', '-', tmp_path.name.lower()).strip('-')}"
    if kind == "registry":
        return Cache(f"type=registry,ref={name}:cache", f"{name}:cache")
    if kind == "local":
        return Cache(f"type=local,dest={tmp_path}/cache", f"type=local,src={tmp_path}/cache")
    return Cache("type=inline", name, f"{name}:latest", push=True)


def export(img: Img, context: Path, cache: Cache, *flags: str) -> Finished:
    """Build and save."""
    push = ("--push",) if cache.push else ()
    return img.build(context, "--cache-to", cache.to, *push, *flags, tag=cache.tag).ok()


def rebuild(img: Img, context: Path, *caches: str, flags: tuple[str, ...] = (), tag: str = "built") -> Finished:
    """Build with caches."""
    sources = [word for cache in caches for word in ("--cache-from", cache)]
    return img.build(context, *sources, *flags, tag=tag).ok()


def warnings(done: Finished) -> list[str]:
    """Return the warnings that the end of the log repeats."""
    return [line for line in done.stderr.splitlines() if line.startswith(" - ")]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_an_empty_state_elsewhere_runs_nothing_and_gives_the_same_image(
    new_state: NewState, context: Path, cache: Cache, kind: str, mode: str
) -> None:
    if kind == "inline" and mode == "max":
        done = new_state().build(context, "--cache-to", "type=inline,mode=max")
        done.refused(2, "`mode` cannot be `max`")
        return
    here, there = new_state("here"), new_state("deep/down/there")
    export(here, context, cache, *(("--cache-to", f"{cache.to},mode={mode}") if kind != "inline" else ()))
    done = rebuild(there, context, cache.source)
    assert made(done.stderr) == []
    assert there.digest("built") == (here.digest(cache.tag) if kind != "inline" else there.digest("built"))
    assert warnings(done) == []
    layers = [
        there.run("inspect", "--format", "{{.RootFS}}", "built").text,
        here.run("inspect", "--format", "{{.RootFS}}", cache.tag).text,
    ]
    assert layers[0] == layers[1]


def test_an_unchanged_build_that_saves_again_writes_nothing(
    new_state: NewState, context: Path, cache: Cache, tmp_path: Path
) -> None:
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}

    here, there = new_state("here"), new_state("there")
    export(here, context, cache)
    before = files()
    done = there.build(context, "--cache-from", cache.source, "--cache-to", cache.to).ok()
    assert made(done.stderr) == []
    assert files() == before


def test_after_one_changed_step_only_what_depends_on_it_runs(new_state: NewState, context: Path, cache: Cache) -> None:
    here, there = new_state("here"), new_state("there")
    export(here, context, cache)
    (context / "plain").write_text("changed\n")
    ran = made(rebuild(there, context, cache.source).stderr)
    assert [step.partition("] ")[2] for step in ran] == ["COPY plain /w/plain", "RUN cat /w/built /w/plain > /w/all"]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_two_platforms_travel_together(new_state: NewState, tmp_path: Path, cache: Cache, kind: str, mode: str) -> None:
    if kind == "inline" and mode == "max":
        return  # there is no such thing, see above
    directory = tmp_path / "platforms"
    directory.mkdir()
    write_context(directory, PLATFORMS, {"plain": "x"})
    platforms = ("--platform", "linux/amd64,linux/arm64")
    here, there, one = new_state("here"), new_state("there"), new_state("one")
    export(here, directory, cache, *platforms, *(("--cache-to", f"{cache.to},mode=max") if mode == "max" else ()))
    done = rebuild(there, directory, cache.source, flags=platforms)
    assert made(done.stderr) == []
    if kind != "inline":
        assert there.digest("built") == here.digest(cache.tag)
    assert made(rebuild(one, directory, cache.source, flags=("--platform", "linux/arm64")).stderr) == []
    (directory / "plain").write_text("changed")
    ran = made(rebuild(one, directory, cache.source, flags=platforms).stderr)
    assert [step.partition("] ")[2] for step in ran] == ["COPY plain /plain"] * len(set(ran)), ran


def test_the_build_argument_of_docker_makes_an_inline_cache(
    new_state: NewState, context: Path, registry: DockerRegistry
) -> None:
    name = f"{registry.address}/by-argument:latest"
    new_state("here").build(context, "--build-arg", "BUILDKIT_INLINE_CACHE=1", "--push", tag=name).ok()
    assert made(rebuild(new_state("there"), context, name).stderr) == []


def test_several_caches_are_asked(new_state: NewState, context: Path, tmp_path: Path) -> None:
    here, there = new_state("here"), new_state("there")
    for number in (1, 2):
        (context / "plain").write_text(f"{number}\n")
        here.build(context, "--cache-to", f"type=local,dest={tmp_path}/cache{number},mode=max").ok()
    sources = [f"type=local,src={tmp_path}/cache{number}" for number in (1, 2)]
    for number in (2, 1):
        (context / "plain").write_text(f"{number}\n")
        assert made(rebuild(there, context, *sources, "", f"type=local,src={tmp_path}/none").stderr) == []


def test_over_tls(new_state: NewState, context: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    with DockerRegistry(tmp_path / "registry", authority=authority) as registry:
        name = f"{registry.address}/app:cache"
        here, there = (
            new_state(name).with_environment(SSL_CERT_FILE=str(authority.certificate)) for name in ("here", "there")
        )
        here.build(context, "--cache-to", f"type=registry,ref={name},mode=max").ok()
        assert made(rebuild(there, context, name).stderr) == []
        insecure = rebuild(new_state("insecure"), context, f"type=registry,ref={name},registry.insecure=true")
        assert made(insecure.stderr) == []
        refused = rebuild(new_state("refused"), context, name)
        assert len(made(refused.stderr)) == STEPS


def test_ten_builds_at_once_lose_nothing(new_state: NewState, tmp_path: Path, registry: DockerRegistry) -> None:
    name = f"{registry.address}/ten:cache"
    contexts = []
    for number in range(10):
        directory = tmp_path / f"context{number}"
        directory.mkdir()
        text = f"FROM busybox\nRUN echo {number} > /n\nCOPY f /f\n"
        contexts.append(write_context(directory, text, {"f": str(number)}))
    states = [new_state(f"state{number}") for number in range(10)]

    def build(number: int) -> Finished:
        return states[number].build(contexts[number], "--cache-to", f"type=registry,ref={name},mode=max")

    with ThreadPoolExecutor(10) as pool:
        for done in pool.map(build, range(10)):
            done.ok()
    there = new_state("there")
    for directory in contexts:
        assert made(rebuild(there, directory, name).stderr) == []


def test_a_signed_cache_is_used_where_its_key_is_trusted(new_state: NewState, context: Path, tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / name], check=True)
        subprocess.run(
            ["openssl", "pkey", "-in", tmp_path / name, "-pubout", "-out", tmp_path / f"{name}.pub"], check=True
        )
    cache = f"type=local,dest={tmp_path}/cache,sign={tmp_path}/ours"
    new_state("here").build(context, "--cache-to", cache).ok()
    source = f"type=local,src={tmp_path}/cache,trust={tmp_path}"
    assert made(rebuild(new_state("there"), context, f"{source}/ours.pub").stderr) == []
    distrusting = rebuild(new_state("other"), context, f"{source}/theirs.pub")
    assert len(made(distrusting.stderr)) == STEPS
    assert "is not signed by a trusted key" in distrusting.stderr


# ------------------------------------------------------------------------------------------------------------- damage


def image_of(img: Img, name: str = "built") -> list[str]:
    """Return the diff ids of an image."""
    return list(json.loads(img.run("inspect", name).ok().text)[0]["RootFS"]["Layers"])


def damages() -> dict[str, Callable[[Path, random.Random, list[Path]], None]]:
    def flip(path: Path, chance: random.Random, _all: list[Path]) -> None:
        content = bytearray(path.read_bytes() or b"x")
        content[chance.randrange(len(content))] ^= 4
        path.write_bytes(content)

    return {
        "deleted": lambda path, _chance, _all: path.unlink(),
        "truncated": lambda path, _chance, _all: path.write_bytes(path.read_bytes()[:-20]) and None,
        "flipped": flip,
        "replaced": lambda path, chance, every: path.write_bytes(chance.choice(every).read_bytes()) and None,
    }


@pytest.mark.parametrize("damage", damages())
def test_whatever_is_damaged_the_build_is_right(
    new_state: NewState, context: Path, tmp_path: Path, damage: str
) -> None:
    """Each entry of the cache in turn; with an exporter that reads every layer."""
    here = new_state("here")
    here.build(context, "--cache-to", f"type=local,dest={tmp_path}/cache,mode=max").ok()
    entries = sorted(path for path in (tmp_path / "cache").rglob("*") if path.is_file() and ".seg-" not in path.name)
    before = {path: path.read_bytes() for path in entries}
    told = 0
    chance, expected = random.Random(9), here.run("unpack", "-o", str(tmp_path / "right"), "built")
    expected.ok()
    for number, path in enumerate(entries):
        damages()[damage](path, chance, [other for other in entries if other != path])
        there = new_state(f"there{number}")
        output = tmp_path / f"out{number}"
        done = there.build(
            context, "--cache-from", f"type=local,src={tmp_path}/cache", "-o", f"type=local,dest={output}"
        ).ok()
        assert "Traceback" not in done.stderr
        assert (output / "w/all").read_bytes() == (tmp_path / "right/w/all").read_bytes(), path
        assert len(warnings(done)) <= 1, done.stderr
        told += len(warnings(done))
        path.write_bytes(before[path])
    assert told >= 5, "every layer of the image, at least"


def _reset(exchange: Exchange) -> None:
    exchange.reset()


@pytest.mark.parametrize("what", ["manifests", "blobs"])
@pytest.mark.parametrize(
    "answer", [status(404), status(429), status(500), _reset, cut_after(30), reply(200, b"<html>")],
    ids=["404", "429", "500", "reset", "cut", "page"],
)  # fmt: skip
def test_a_registry_that_misbehaves_fails_no_build(
    new_state: NewState, context: Path, what: str, answer: Callable[[Exchange], None]
) -> None:
    with FaultyRegistry() as registry:
        name = f"{registry.address}/app:cache"
        new_state("here").build(context, "--cache-to", f"type=registry,ref={name},mode=max").ok()
        registry.rule(f"GET /v2/app/{what}/", answer)
        done = rebuild(new_state("there"), context, name)
        assert len(made(done.stderr)) == STEPS
        assert len(warnings(done)) == 1, done.stderr


@pytest.mark.parametrize("answer", [status(404), status(429), status(500), _reset], ids=["404", "429", "500", "reset"])
def test_a_registry_that_does_not_give_one_entry_fails_no_build(
    new_state: NewState, context: Path, tmp_path: Path, answer: Callable[[Exchange], None]
) -> None:
    """Each blob of the cache in turn; with an exporter that reads every layer."""
    with FaultyRegistry() as registry:
        name = f"{registry.address}/app:cache"
        here = new_state("here")
        here.build(context, "--cache-to", f"type=registry,ref={name},mode=max").ok()
        here.run("unpack", "-o", str(tmp_path / "right"), "built").ok()
        manifest = json.loads((registry.find("/v2/app/manifests/cache") or ("", b"{}"))[1])
        told = 0
        for number, item in enumerate([manifest["config"], *manifest["layers"]]):
            registry.rule(f"GET /v2/app/blobs/{item['digest']}", answer)
            output = tmp_path / f"out{number}"
            done = (
                new_state(f"there{number}")
                .build(context, "--cache-from", f"type=registry,ref={name}", "-o", f"type=local,dest={output}")
                .ok()
            )
            assert (output / "w/all").read_bytes() == (tmp_path / "right/w/all").read_bytes(), item
            assert len(warnings(done)) <= 1, done.stderr
            told += len(warnings(done))
            registry.heal()
        assert told >= 2, "the records, and a layer"


# -------------------------------------------------------------------------------------------------------------- speed


def test_a_warm_build_of_50_steps_reads_two_documents_before_the_first_layer(
    new_state: NewState, tmp_path: Path
) -> None:
    directory = tmp_path / "steps"
    directory.mkdir()
    text = "FROM busybox\n" + "".join(f"COPY f /f{number}\n" for number in range(50))
    write_context(directory, text, {"f": "x"})
    with FaultyRegistry() as registry:
        name = f"{registry.address}/app:cache"
        new_state("here").build(directory, "--cache-to", f"type=registry,ref={name},mode=max").ok()
        before = len(registry.asked())
        assert made(rebuild(new_state("there"), directory, name).stderr) == []
        asked = registry.asked()[before:]
        manifest = json.loads((registry.find("/v2/app/manifests/cache") or ("", b"{}"))[1])
        layers = {layer["digest"] for layer in manifest["layers"]}
        assert [item.path.rpartition("/")[2] for item in asked[:2]] == ["cache", manifest["config"]["digest"]]
        # The image is kept, so its layers are fetched, each once.
        assert {item.path.rpartition("/")[2] for item in asked[2:]} == layers
        assert len(asked) == 2 + len(layers)
