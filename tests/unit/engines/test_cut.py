"""Which parts of a build are done elsewhere: every step in one part at most, what a part needs before it, one platform in each."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from img_core.spec.graph import Copy, FileOp, RunMount, RunOp, SourceOp, Vertex, inputs_first
from img_core.testing.plans import AMD64, ARM64
from img_lib_engines.cut import Cut, CutFacts, cut

BASE = Vertex(SourceOp("docker-image", "busybox"), platform=AMD64, name="base")


def run(text: str, base: Vertex = BASE, *, mount: str = "", **more: object) -> Vertex:
    mounts = (RunMount(mount, "/m", id="it"),) if mount else ()
    op = RunOp((text,), mounts=mounts, security=str(more.pop("security", "sandbox")))
    return Vertex(op, (base,), more.pop("platform", base.platform), text, use_cache=bool(more.pop("use_cache", True)))  # type: ignore[arg-type]


def copied(base: Vertex, *sources: Vertex, name: str = "copy") -> Vertex:
    actions = tuple(Copy(number, ("/f",), f"/{number}") for number in range(1, len(sources) + 1))
    return Vertex(FileOp(actions), (base, *sources), base.platform, name)


@dataclass
class Known:
    """What is known of the steps, by their names."""

    seconds: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, float] = field(default_factory=dict)
    found: tuple[str, ...] = ()
    native: tuple[str, ...] = ()

    def cut(self, *roots: Vertex) -> Cut:
        steps = [item for item in inputs_first(roots) if not isinstance(item.op, SourceOp)]
        missing = {item.digest for item in steps if item.name not in self.found}

        def platform(vertex: Vertex) -> str | None:
            name = str(vertex.platform or "")
            return name if name in self.native else "" if name else None

        return cut(
            roots,
            CutFacts(
                missing,
                lambda vertex: self.seconds.get(vertex.name),
                lambda vertex: self.sizes.get(vertex.name, 0.0),
                platform,
                lambda source: "it is only here" if "local" in source.name else "",
            ),
        )


def shown(found: Cut) -> dict[str, list[str]]:
    """Return the names of the steps of each part by its target."""
    return {part.target.name: [step.name for step in part.steps] for part in found.parts}


def four_stages() -> Vertex:
    return copied(run("own"), *(run(f"stage-{number}") for number in range(4)))


def test_stages_that_others_read_are_parts_and_so_is_what_a_stage_does_before() -> None:
    found = Known().cut(four_stages())
    assert shown(found) == {name: [name] for name in ("own", "stage-0", "stage-1", "stage-2", "stage-3")}
    assert found.left == 1
    assert all(part.needs == () for part in found.parts)


def test_a_shared_stage_is_one_part_that_others_need() -> None:
    shared = run("shared")
    one, two = run("one", shared), run("two", shared)
    found = Known().cut(copied(BASE, one, two))
    assert shown(found) == {"shared": ["shared"], "one": ["one"], "two": ["two"]}
    assert [part.needs for part in found.parts] == [(), (shared.digest,), (shared.digest,)]


def test_images_of_several_builds_are_parts() -> None:
    shared = run("shared")
    found = Known().cut(*(run(f"build-{number}", shared) for number in range(3)))
    assert list(shown(found)) == ["shared", "build-0", "build-1", "build-2"]
    assert found.left == 0


@pytest.mark.parametrize(
    ("known", "parts"),
    [
        pytest.param(Known({"stage-0": 0.1}), ["own", "stage-1", "stage-2", "stage-3"], id="one-is-quick"),
        pytest.param(
            Known({"stage-0": 9}, {"stage-0": 10}), ["own", "stage-1", "stage-2", "stage-3"], id="one-is-large"
        ),
        pytest.param(Known({"stage-0": 9}, {"stage-0": 1}), ["own", *(f"stage-{n}" for n in range(4))], id="it-pays"),
        pytest.param(Known(found=("stage-0", "own")), ["stage-1", "stage-2", "stage-3"], id="two-are-known"),
        pytest.param(Known(found=("own", "stage-0", "stage-1", "stage-2")), [], id="nothing-is-beside-the-only-one"),
        pytest.param(Known(found=("own", *(f"stage-{n}" for n in range(4)), "copy")), [], id="all-is-known"),
        pytest.param(Known({"own": 0, **{f"stage-{n}": 0.2 for n in range(4)}}), [], id="all-is-quick"),
    ],
)
def test_what_takes_longer_to_move_than_to_do_stays(known: Known, parts: list[str]) -> None:
    assert list(shown(known.cut(four_stages()))) == parts


@pytest.mark.parametrize(
    "stays",
    [
        pytest.param(run("it", mount="ssh"), id="ssh"),
        pytest.param(run("it", security="insecure"), id="more-rights"),
        pytest.param(run("it", use_cache=False), id="no-cache"),
    ],
)
def test_what_only_this_machine_may_do_stays(stays: Vertex) -> None:
    found = Known().cut(copied(BASE, stays, run("one"), run("two")))
    assert list(shown(found)) == ["one", "two"]
    assert found.left == 2


def test_an_image_that_only_this_machine_has_keeps_its_steps() -> None:
    local = Vertex(SourceOp("docker-image", "mine"), platform=AMD64, name="local")
    found = Known().cut(copied(BASE, run("it", local), run("one"), run("two")))
    assert list(shown(found)) == ["one", "two"]


def test_copies_that_are_the_same_on_all_platforms_go_with_what_reads_them() -> None:
    tree = Vertex(SourceOp("local", "context"), name="context")
    added = Vertex(FileOp((Copy(0, ("/",), "/"),), has_base=False), (tree,), None, "add")
    found = Known(native=("linux/arm64",)).cut(run("there", added, platform=ARM64), run("here"))
    assert shown(found) == {"there": ["add", "there"], "here": ["here"]}
    only = Vertex(FileOp((Copy(1, ("/f",), "/f"),)), (added, run("there", arm())), None, "last")
    assert [
        (part.target.name, part.platform) for part in Known({"there": 0}, native=("linux/arm64",)).cut(only).parts
    ] == [("there", "linux/arm64")]


def test_secrets_are_told() -> None:
    found = Known().cut(copied(BASE, run("it", mount="secret"), run("one")))
    assert [part.secrets for part in found.parts] == [("it",), ()]


def arm(reference: str = "busybox") -> Vertex:
    return Vertex(SourceOp("docker-image", reference), platform=ARM64, name="arm base")


def test_no_part_has_steps_of_two_platforms_however_quick_they_are() -> None:
    tool = run("compile")  # on this machine, for both
    native, other = copied(run("here"), tool, name="one"), copied(run("there", arm()), tool, name="two")
    found = Known({"compile": 0, "here": 0, "there": 0}, native=("linux/arm64",)).cut(native, other)
    parts = shown(found)
    assert parts["two"] == ["there", "two"]
    assert "compile" in parts
    for part in found.parts:
        assert {str(step.platform) == "linux/arm64" for step in part.steps} == {part.platform == "linux/arm64"}


def test_a_platform_that_nobody_serves_is_cut_like_this_one() -> None:
    found = Known().cut(run("here"), run("there", arm()))
    assert [part.platform for part in found.parts] == ["", ""]


@st.composite
def graphs(draw: st.DrawFn) -> list[Vertex]:
    made: list[Vertex] = [BASE, arm()]
    for number in range(draw(st.integers(1, 14))):
        base = draw(st.sampled_from(made))
        sides = draw(st.lists(st.sampled_from(made[2:]), max_size=2)) if len(made) > 2 else []
        made.append(copied(base, *sides, name=f"{number}") if sides else run(f"{number}", base))
    return made[2:]


@settings(deadline=None)
@given(graph=graphs(), data=st.data())
def test_every_step_is_done_once_after_what_it_needs(graph: list[Vertex], data: st.DataObject) -> None:
    names = [vertex.name for vertex in graph]
    known = Known(
        data.draw(st.dictionaries(st.sampled_from(names), st.sampled_from([0.0, 0.5, 5.0]))),
        native=data.draw(st.sampled_from([(), ("linux/arm64",)])),
    )
    roots = data.draw(st.lists(st.sampled_from(graph), min_size=1, max_size=3, unique=True))
    found = known.cut(*roots)
    done: list[str] = []
    for part in found.parts:
        mine = {step.digest for step in part.steps}
        assert set(part.needs) <= {other.digest for other in found.parts[: found.parts.index(part)]}
        for step in part.steps:  # whatever it reads is made before, in this part or in one that it needs
            for item in step.inputs:
                assert isinstance(item.op, SourceOp) or item.digest in mine or item.digest in part.needs
        done += mine
        assert part.target.digest in mine
    assert len(done) == len(set(done))
    steps = [item for item in inputs_first(roots) if not isinstance(item.op, SourceOp)]
    assert found.left + len(done) == len(steps)
