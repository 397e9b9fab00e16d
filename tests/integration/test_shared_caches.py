"""``--cache-to`` on one machine, ``--cache-from`` on another: nothing runs, and the image is the same, whatever happened to the cache."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.fixtures import NewState
from harness.img import write_context
from harness.machines import Machines, places
from harness.processes import AT_ONCE, wait_until
from img_core.testing.faulty_registry import Exchange, FaultyRegistry, reply, stall, status
from img_core.testing.registry import DockerRegistry

pytestmark = pytest.mark.rootless
pytest_plugins = ["img_core.testing.fixtures"]

DOCKERFILE = """\
FROM busybox AS base
RUN echo base > /r1
FROM base AS build
COPY src /c2
RUN head -c 8 /dev/urandom | md5sum > /random; cat /c2/a > /r3
FROM base
WORKDIR /w
COPY --from=build /r3 /c5
COPY --link b /linked/
RUN head -c 8 /dev/urandom | md5sum > /r6
ENV DONE=yes
"""
STEPS = 7


@pytest.fixture
def machines(tmp_path: Path, seed: Path) -> Iterator[Machines]:
    context = tmp_path / "context"
    context.mkdir()
    write_context(context, DOCKERFILE, {"src/a": "a", "src/b": "b", "b": "b"})
    made = Machines(tmp_path, seed, context)
    yield made
    made.close()


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("kind", ["local", "registry"])
def test_an_empty_state_elsewhere_finds_everything(
    machines: Machines, registry: DockerRegistry, tmp_path: Path, kind: str, mode: str
) -> None:
    to, source = places(kind, tmp_path, registry, mode=mode)
    one, two = machines.new(), machines.new()
    first = machines.build(one, cache_to=to).ok()
    assert len(first.made) == STEPS, str(first)
    second = machines.build(two, cache_from=source).ok()
    assert (second.made, second.warnings) == ([], ()), str(second)
    assert second.digest == first.digest
    # one step changes
    for machine in (machines.new(), one):
        (machines.context / "src" / "a").write_text("changed" if machine is one else "other")
        third = machines.build(machine, cache_from=source).ok()
        assert [text.split()[0] for text in third.made] == ["COPY", "RUN", "COPY", "RUN"], str(third)
        assert third.warnings == ()


def test_the_image_itself_is_a_cache(machines: Machines, registry: DockerRegistry, tmp_path: Path) -> None:
    name = f"{registry.address}/inline:1"
    one, two = machines.new(), machines.new()
    push = {"outputs": [["registry", {"name": name}]]}
    first = machines.build(one, cache_to=[["inline", {}]], **push).ok()
    second = machines.build(two, cache_from=[["registry", {"ref": name}]], cache_to=[["inline", {}]], **push).ok()
    assert (second.made, second.warnings) == ([], ()), str(second)
    assert second.digest == first.digest


def test_two_platforms_share_a_cache(machines: Machines, registry: DockerRegistry, tmp_path: Path) -> None:
    write_context(machines.context, "FROM scratch\nCOPY src /c1\nCOPY b /c2\n")
    to, source = places("local", tmp_path, registry)
    platforms = ["linux/amd64", "linux/arm64"]
    first = machines.build(machines.new(), cache_to=to, platforms=platforms, tags=["server/two"]).ok()
    second = machines.build(machines.new(), cache_from=source, platforms=platforms, tags=["server/two"]).ok()
    assert (second.made, second.digest) == ([], first.digest)
    assert machines.build(machines.new(), cache_from=source, platforms=platforms[1:]).ok().made == []


def blobs_of(directory: Path) -> list[Path]:
    """Return the layers in the directory of a cache."""
    return [
        path for path in sorted((directory / "cache" / "blobs" / "sha256").iterdir()) if path.read_bytes()[:1] != b"{"
    ]


def _swap(paths: list[Path]) -> None:
    first, second = paths[0].read_bytes(), paths[1].read_bytes()
    paths[0].write_bytes(second)
    paths[1].write_bytes(first)


DAMAGES: dict[str, Any] = {
    "deleted": lambda paths: [path.unlink() for path in paths],
    "one deleted": lambda paths: paths[0].unlink(),
    "cut": lambda paths: [path.write_bytes(path.read_bytes()[:-5]) for path in paths],
    "empty": lambda paths: [path.write_bytes(b"") for path in paths],
    "flipped": lambda paths: [path.write_bytes(path.read_bytes()[:-20] + bytes(20)) for path in paths],
    "swapped": _swap,
}


@pytest.mark.parametrize(
    ("damage", "output"), [*((name, "image") for name in DAMAGES), ("cut", "local"), ("swapped", "local")]
)
def test_a_damaged_cache_gives_the_right_image_and_warnings(
    machines: Machines, registry: DockerRegistry, tmp_path: Path, damage: str, output: str
) -> None:
    # All blobs of `min` are needed; of `max` one or two that are damaged may be such as nobody reads.
    to, source = places("local", tmp_path, registry, mode="min" if damage in ("one deleted", "swapped") else "max")
    machines.build(machines.new(), cache_to=to).ok()
    paths = blobs_of(tmp_path)
    for path in paths:
        path.chmod(0o644)
    DAMAGES[damage](paths)
    result = tmp_path / "out"
    outputs = {"outputs": [["local", {"dest": str(result)}]]} if output == "local" else {}
    done = machines.build(machines.new(), cache_from=source, **outputs).ok()
    assert done.warnings
    assert all("cache local" in text for text in done.warnings), done.warnings
    if output == "local":
        assert (result / "c5").read_text() == "a"
        assert (result / "linked" / "b").read_text() == "b"


def test_a_cache_that_is_not_there_is_one_warning(machines: Machines, tmp_path: Path) -> None:
    source = [["local", {"src": str(tmp_path / "nowhere")}]]
    done = machines.build(machines.new(), cache_from=source).ok()
    assert len(done.warnings) == 1
    assert not (tmp_path / "nowhere").exists()


def test_a_target_that_cannot_be_written_fails_unless_it_may(machines: Machines, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    machine = machines.new()
    options = {"dest": str(tmp_path / "file" / "cache")}
    machines.build(machine, cache_to=[["local", options]]).refused()
    done = machines.build(machine, cache_to=[["local", {**options, "ignore-error": "true"}]]).ok()
    assert len(done.warnings) == 1


FAULTS: dict[str, Callable[[Exchange], None]] = {
    "gone": status(404),
    "too many requests": status(429, **{"Retry-After": "0"}),
    "broken": status(500),
    "reset": lambda exchange: exchange.reset(),
    "a page": reply(200, b"<html>sign in</html>"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_registry_that_fails_gives_the_right_image_and_warnings(
    machines: Machines, registry: DockerRegistry, faulty_registry: FaultyRegistry, fault: str
) -> None:
    to, source = (
        [["registry", {"ref": f"{faulty_registry.address}/cache/{fault.replace(' ', '-')}", **options}]]
        for options in ({"mode": "max"}, {})
    )
    machines.build(machines.new(), cache_to=to).ok()
    digests = {
        layer["digest"]
        for _, content in list(faulty_registry.manifests())
        for layer in json.loads(content).get("layers", ())
    }
    assert digests
    for digest in digests:
        faulty_registry.rule(f"GET .*{digest}", FAULTS[fault])
    done = machines.build(machines.new(), cache_from=source).ok()
    assert done.warnings
    assert all("is not used for" in text and "sha256:" in text for text in done.warnings), done.warnings
    faulty_registry.heal()
    assert machines.build(machines.new(), cache_from=source).ok().made == []
    faulty_registry.rule("GET .*/manifests/", FAULTS[fault])
    done = machines.build(machines.new(), cache_from=source).ok()
    assert len(done.made) == STEPS
    assert len(done.warnings) == 1, done.warnings


@pytest.mark.parametrize("asked", ["manifests/", "blobs/"])
def test_a_cache_that_never_answers_keeps_no_build_from_ending(
    new_state: NewState, faulty_registry: FaultyRegistry, tmp_path: Path, asked: str
) -> None:
    (tmp_path / "context").mkdir()
    context = write_context(tmp_path / "context", "FROM scratch\nCOPY f /f\n", {"f": "f"})
    place = f"{faulty_registry.address}/hangs/{asked}cache"
    new_state("one").build(context, "--cache-to", place).ok()
    layers = [
        layer["digest"]
        for _, text in faulty_registry.manifests()
        if text[:1] == b"{"
        for layer in json.loads(text).get("layers", ())
    ]
    for name in layers if asked == "blobs/" else [""]:
        faulty_registry.rule(f"GET .*{asked}{name}", stall())
    before = len(faulty_registry.requests)
    builder = new_state("two").start("build", "-t", "never", "--cache-from", place, context, log=tmp_path / "log")
    wait_until(
        lambda: any(
            f"/{asked}" in item.path
            for item in faulty_registry.requests[before:]
            if asked != "blobs/" or item.path.rpartition("/")[2] in layers
        ),
        "it is asked",
    )
    builder.send_signal(signal.SIGINT)
    assert builder.wait(2 * AT_ONCE) == 130, (tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()
