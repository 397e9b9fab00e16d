"""What handlers of operations do around the work of a step; snapshotter and executor only write down what they are asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import FrozenInstanceError
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from solver_lab import PLATFORMS, Lab, World

from img_core.solver.scope import BuildScope, Drivers
from img_core.solver.solver import Solver
from img_core.solver.stacks import Stack
from img_core.spec.errors import ImgError, StepError
from img_core.spec.executor import Executor, ExitStatus, Process
from img_core.spec.exporter import LayerForm
from img_core.spec.frontend import Plan, PlannedImage
from img_core.spec.graph import Copy, FileOp, MergeOp, RunMount, RunOp, SourceOp, Vertex, WriteFile
from img_core.spec.snapshotter import Applied, Changes, LayerStream, Rootfs, Snapshotter
from img_core.spec.source import PinnedTree
from img_core.store import records


class OpenRoot:
    """A root file system that knows whether it was given back."""

    def __init__(self, directory: str) -> None:
        self.fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self.closed = False

    def close(self) -> None:
        os.close(self.fd)
        self.closed = True


class FilesOf:
    """What is in the directory of a snapshot."""

    def __init__(self, directory: str) -> None:
        self.root_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    def __iter__(self) -> Iterator[tuple[bytes, os.stat_result | None]]:
        for name in sorted(os.listdir(self.root_fd)):
            yield os.fsencode(name), os.stat(name, dir_fd=self.root_fd, follow_symlinks=False)

    def owner(self, path: bytes) -> tuple[int, int] | None:
        return None

    def close(self) -> None:
        os.close(self.root_fd)


class FakeSnapshotter(Snapshotter):
    """Snapshots are directories with what their own step wrote."""

    name = "fake"

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.prepared: list[tuple[str, int, bool]] = []  # directory, number of parents, for a process
        self.removed: list[str] = []
        self.looked_at: list[str] = []  # for their changes
        self.roots: list[OpenRoot] = []

    def prepare(self, directory: str, parents: Sequence[str], *, mount_points: bool = False) -> Rootfs:
        os.mkdir(directory)
        self.prepared.append((directory, len(parents), mount_points))
        self.roots.append(OpenRoot(directory))
        return self.roots[-1]

    def view(self, parents: Sequence[str]) -> Rootfs:
        raise AssertionError("nothing here reads other steps")

    def apply(self, directory: str, parents: Sequence[str], layer: LayerStream) -> Applied:
        raise AssertionError("nothing here has a base image")

    def changes(self, directory: str, parents: Sequence[str]) -> Changes:
        self.looked_at.append(directory)
        return FilesOf(directory)

    def record_owners(self, directory: str, owners: Mapping[bytes, tuple[int, int]]) -> None:
        pass

    def owners(self, parents: Sequence[str]) -> Mapping[bytes, tuple[int, int]]:
        return {}

    def usage(self, directory: str) -> int:
        return 0

    def remove(self, directory: str) -> None:
        self.removed.append(directory)
        shutil.rmtree(directory)


class Counting(Executor):
    """Counts processes; each ends with *status* and writes *text* and a time of its own into the file ``f``."""

    name = "counting"

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.text = ""
        self.ran: list[tuple[str, ...]] = []
        self.given: list[Process] = []
        self.times = count(1)

    def run(self, process: Process, rootfs: Any, io: Any) -> ExitStatus:  # Any: as the contract says
        self.ran.append(process.args)
        self.given.append(process)
        with open(os.open("f", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=rootfs.fd), "w", encoding="utf-8") as file:
            file.write(self.text)
        os.utime("f", (now := next(self.times), now), dir_fd=rootfs.fd)
        return ExitStatus(self.status)


class Bench:
    """Builds with the fakes in one state directory."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.lab = Lab(directory, patch)
        self.snapshotter = FakeSnapshotter()
        self.executor = Counting()
        self.found: dict[str, bool] = {}

    def scope(self, base: BuildScope) -> BuildScope:
        """Return *base* with the fakes in it."""
        drivers = Drivers(self.snapshotter, lambda: self.executor, base.drivers.tree_source)
        return BuildScope(
            base.host, base.host_platform, base.store, drivers, base.resolver, base.events, base.cancellation, base.plan
        )  # fmt: skip

    def build(self, *roots: Vertex) -> list[Stack]:
        """Solve a graph; return the root file systems."""
        plan = Plan(tuple(PlannedImage(PLATFORMS[0], root, {}, ()) for root in roots))
        self.executor.ran.clear()
        self.found.clear()

        def finished(vertex: Vertex, found: bool, _seconds: float, _error: str) -> None:
            self.found[vertex.name] = found

        with self.lab.solver(World(), plan) as (_, base), Solver(self.scope(base), finished=finished) as solver:
            return [image.stack for image in solver.solve().images]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Give a state directory with nothing in it."""
    made = Bench(tmp_path / "lab", monkeypatch)
    yield made
    made.lab.close()


def run(text: str, *inputs: Vertex, **more: Any) -> Vertex:  # Any: of the fields
    return Vertex(RunOp((text,), has_base=bool(inputs)), inputs, name=text, **more)


def wrote(text: str, *inputs: Vertex, **more: Any) -> Vertex:  # Any: of the fields
    return Vertex(FileOp((WriteFile("f", text.encode(), "/f"),), has_base=bool(inputs)), inputs, name=text, **more)


CONTEXT = Vertex(SourceOp("local", "context"), name="context")


@pytest.mark.parametrize("step", [run("one"), wrote("one")], ids=["run", "file"])
def test_a_step_is_done_once_and_then_found(bench: Bench, step: Vertex) -> None:
    (first,) = bench.build(step)
    (second,) = bench.build(step)
    assert bench.found == {"one": True}
    assert first.identity == second.identity
    assert [place[1:] for place in bench.snapshotter.prepared] == [(0, isinstance(step.op, RunOp))]
    assert [root.closed for root in bench.snapshotter.roots] == [True]


def test_a_step_works_on_all_layers_of_its_base(bench: Bench) -> None:
    bench.build(run("three", wrote("two", run("one"))))
    assert [parents for _, parents, _ in bench.snapshotter.prepared] == [0, 1, 2]


def test_a_failed_step_leaves_nothing_and_runs_again(bench: Bench) -> None:
    bench.executor.status = 3
    with pytest.raises(StepError, match="exit code: 3"):
        bench.build(run("one"))
    assert [place[0] for place in bench.snapshotter.prepared] == bench.snapshotter.removed
    assert [root.closed for root in bench.snapshotter.roots] == [True]
    bench.executor.status = 0
    bench.build(run("one"))
    assert bench.executor.ran == [("one",)]


def test_what_a_frontend_and_an_executor_have_agreed_on_reaches_the_executor(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = RunMount("tmpfs", "/t", options=(("blocks", "4"),))
    step = Vertex(RunOp(("one",), has_base=False, mounts=(mount,), options=(("nice", "5"),)), name="one")
    with pytest.raises(StepError, match="the executor `counting` does not know the option `nice` of this step"):
        bench.build(step)
    monkeypatch.setattr(Counting, "understands", frozenset({"nice"}))
    with pytest.raises(StepError, match="option `blocks`"):
        bench.build(step)
    assert bench.executor.given == []
    monkeypatch.setattr(Counting, "understands", frozenset({"nice", "blocks"}))
    bench.build(step)
    (process,) = bench.executor.given
    assert process.options == (("nice", "5"),)
    assert [item.options for item in process.mounts if item.target == "/t"] == [(("blocks", "4"),)]


def test_nothing_built_on_an_old_result_is_found_when_a_step_gave_something_else(bench: Bench) -> None:
    anew = run("one", use_cache=False)
    (first,) = bench.build(run("two", anew))
    bench.executor.text = "something else"
    (second,) = bench.build(run("two", anew))
    assert bench.executor.ran == [("one",), ("two",)]
    assert first.identity != second.identity
    (third,) = bench.build(run("two", run("one")))
    assert bench.executor.ran == []
    assert (third.identity, third.layers[0].name) == (second.identity, second.layers[0].name)


def test_a_step_that_gave_the_same_again_keeps_its_result_and_what_is_built_on_it(bench: Bench) -> None:
    anew = run("one", use_cache=False)
    (first,) = bench.build(run("two", anew))
    for _ in range(2):
        (again,) = bench.build(run("two", anew))
        assert bench.executor.ran == [("one",)]
        assert again.identity == first.identity
        assert [layer.snapshot for layer in again.layers] == [layer.snapshot for layer in first.layers], "times, too"
    assert len(os.listdir(Path(bench.lab.store.state, "snapshots", "native"))) == 2


@pytest.mark.parametrize(("step", "looked"), [(wrote, 0), (run, 2)], ids=["file", "run"])
def test_what_the_key_tells_is_not_read_again_when_everything_runs(
    bench: Bench, step: Callable[..., Vertex], looked: int
) -> None:
    """Its new layer counts, with new times; what was built on the old one is not found on it."""
    (first,) = bench.build(run("two", step("one")))
    (second,) = bench.build(step("one", use_cache=False))
    assert len(bench.snapshotter.looked_at) == looked, "the new layer and the old one, of a step that may give anything"
    assert first.layers[0].snapshot != second.layers[0].snapshot
    (third,) = bench.build(run("two", step("one")))
    assert (third.identity, bench.found) == (first.identity, {"one": True, "two": False})


def test_content_that_comes_back_is_known_by_its_identity(bench: Bench) -> None:
    """The identity of a result that differs is that of its content, on every machine."""
    anew = run("one", use_cache=False)
    identities = []
    for text in ("a", "b", "c", "b"):
        bench.executor.text = text
        identities += [stack.identity for stack in bench.build(anew)]
    assert len(set(identities)) == 3
    assert identities[1] == identities[3]


@pytest.mark.parametrize(
    ("left", "right", "found"),
    [("same", "same", True), ("new", "same", False), ("same", "new", False)],
    ids=["both found", "base is new", "link is new"],
)
def test_a_merge_is_as_new_as_what_it_puts_together(bench: Bench, left: str, right: str, found: bool) -> None:
    def merge(base: str, link: str) -> Vertex:
        return Vertex(MergeOp(), (run(base), wrote(link)), name="merge")

    bench.build(merge("same", "same"))
    (stack,) = bench.build(merge(left, right))
    assert bench.found["merge"] is found
    assert [layer.origin is not None for layer in stack.layers] == [False, True]


@pytest.mark.parametrize(
    "step", [run("one", CONTEXT), Vertex(MergeOp(), (CONTEXT, wrote("a"))), Vertex(MergeOp(), (wrote("a"), CONTEXT))],
    ids=["run", "merge on it", "merge of it"],
)  # fmt: skip
def test_a_context_is_no_base(bench: Bench, step: Vertex) -> None:
    with pytest.raises(ImgError, match="a build context cannot be a base image yet"):
        bench.build(step)


def test_a_source_is_pinned_and_not_fetched(bench: Bench) -> None:
    with bench.lab.solver(World()) as (_, base), Solver(bench.scope(base)) as solver:
        pinned = solver.evaluate(Vertex(SourceOp("https", "h/t")), ())
    assert isinstance(pinned, PinnedTree)
    assert (pinned.identity, pinned.directory) == ("https:h/t 1", None)


# --- the scope

STAGE = run("stage")
COPIED = Vertex(FileOp((Copy(1, ("/",), "/"),)), (run("base"), STAGE), name="copied")

WANTED: dict[str, tuple[Vertex, set[str]]] = {
    "chain": (run("two", run("one")), {"one", "two"}),
    "what is copied from is no layer": (COPIED, {"base", "copied"}),
    "both sides of a merge": (
        Vertex(MergeOp(), (run("one"), COPIED), name="merge"),
        {"merge", "one", "base", "copied"},
    ),
    "no base": (run("one"), {"one"}),
    "a source": (Vertex(SourceOp("docker-image", "one")), set()),
}


def _vertices(root: Vertex) -> Iterator[Vertex]:
    yield root
    for vertex in root.inputs:
        yield from _vertices(vertex)


@pytest.mark.parametrize(("root", "wanted"), WANTED.values(), ids=WANTED)
def test_the_scope_knows_which_layers_will_be_wanted(bench: Bench, root: Vertex, wanted: set[str]) -> None:
    plan = Plan((PlannedImage(PLATFORMS[0], root, {}, ()),))
    names = {vertex.digest: vertex.name for vertex in _vertices(root)}
    for forms, expected in (((LayerForm(),), wanted), ((), set[str]())):
        with bench.lab.solver(World(), plan, layer_forms=forms) as (_, scope):
            assert {names[digest] for digest in scope.blobs_wanted} == expected
            assert len(scope.definitions) == sum(not isinstance(item.op, SourceOp) for item in _vertices(root))


def test_the_scope_is_complete_when_it_is_made(bench: Bench) -> None:
    with bench.lab.solver(World()) as (_, scope), pytest.raises(FrozenInstanceError):
        scope.definitions = frozenset()


def test_a_step_of_a_long_chain_costs_what_one_of_a_short_chain_costs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts of what grows with all layers below, where something does: statements of the database, opened files, and names of stacks."""
    opened, statements, named = 0, 0, 0
    open_, place = os.open, records.place

    def counting(*arguments: Any, **more: Any) -> int:  # Any: as `os.open`
        nonlocal opened
        opened += 1
        return open_(*arguments, **more)

    def count(_statement: str) -> None:
        nonlocal statements
        statements += 1

    def naming(below: str, layer: str) -> str:
        nonlocal named
        named += 1
        return place(below, layer)

    monkeypatch.setattr(os, "open", counting)
    monkeypatch.setattr(records, "place", naming)
    bench.lab.store.database._connection.set_trace_callback(count)
    each: list[tuple[float, ...]] = []
    for name, length in (("short", 30), ("long", 150)):
        chain: tuple[Vertex, ...] = ()
        for number in range(length):
            chain = (wrote(f"{name} {number}", *chain),)
        opened = statements = named = 0
        bench.build(*chain)
        each.append((opened / length, statements / length, named / length))
    short, long = each
    assert min(short) >= 1, "they were counted"
    assert [now / before for now, before in zip(long, short, strict=True) if now >= before * 1.1] == []
