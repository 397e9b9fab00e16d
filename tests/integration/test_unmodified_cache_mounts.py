"""Cache mounts where nothing can be mounted: their directory goes into the tree of a step, so it is at one place at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.unmodified import Box


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, busybox_archive: Path) -> Iterator[Box]:
    made = Box.make(tmp_path_factory.mktemp("box") / "layer", "root", busybox_archive)
    yield made
    made.remove()


def stage(name: str, *mounts: str) -> str:
    flags = " ".join(f"--mount=type=cache,{mount}" for mount in mounts)
    return f"FROM busybox AS {name}\nRUN {flags} touch /one/{name} /two/{name} && sleep 0.3 && touch /made\n"


def together(*stages: str) -> str:
    """Return a Dockerfile whose last step finds what the steps of all *stages* put into the caches."""
    names = [text.split()[3] for text in stages]
    made = "".join(f"COPY --from={name} /made /{name}\n" for name in names)
    shown = "RUN --mount=type=cache,id=one,target=/one --mount=type=cache,id=two,target=/two,readonly ls /one /two > /found\n"
    return f"{''.join(stages)}FROM busybox\n{made}{shown}"


def found(box: Box, output: str) -> list[str]:
    return sorted(set(box.inside(f"{output}/found").read_text().split()) - {"/one:", "/two:"})


@pytest.mark.parametrize("sharing", ["shared", "locked"])
def test_steps_of_a_build_take_turns(box: Box, sharing: str) -> None:
    one, two = (f"id={name},target=/{name},sharing={sharing}" for name in ("one", "two"))
    box.put("/turns/Dockerfile", together(stage("a", one, two), stage("b", two, one), stage("c", one, two)))
    build = "img build --no-cache -o type=local,dest=/turns/out /turns"
    box.shell(f"rm -rf /turns/out; img prune -af >/dev/null; {build}").ok()
    assert found(box, "/turns/out") == ["a", "b", "c"]


def test_steps_of_two_builds_take_turns(box: Box) -> None:
    one, two = ("id=first,target=/one", "id=second,target=/two")
    for name, mounts in {"x": (one, two), "y": (two, one)}.items():
        box.put(f"/{name}/Dockerfile", stage(name, *mounts))
    box.put("/both/Dockerfile", "FROM busybox\nRUN --mount=type=cache,id=first,target=/one ls /one > /found\n")
    box.shell("img build /x & first=$!; img build /y; wait $first; img build -o type=local,dest=/both/out /both").ok()
    assert found(box, "/both/out") == ["x", "y"]


def test_one_cache_at_two_places_is_one_line(box: Box) -> None:
    box.put("/twice/Dockerfile", stage("a", "id=one,target=/one", "id=one,target=/two"))
    done = box.shell("img build --no-cache /twice", timeout=30)
    assert done.returncode != 0
    assert "at one place at a time" in done.stderr
