"""Whatever graph: sharing equal steps, and taking recorded results, gives what a naive evaluation of each step by itself gives."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from solver_lab import PLATFORMS, Lab, World

from img_core.spec.graph import (
    Copy,
    FileAction,
    FileOp,
    MakeDirectory,
    MergeOp,
    Op,
    RunMount,
    RunOp,
    SourceOp,
    Vertex,
    WriteFile,
)
from img_core.spec.values import Platform

# --- graphs as lists of nodes, whose inputs are earlier nodes


@dataclass(frozen=True)
class Node:
    """One step to be: *inputs* are numbers of earlier nodes."""

    op: Op
    inputs: tuple[int, ...] = ()
    platform: Platform | None = None
    use_cache: bool = True

    @property
    def is_tree(self) -> bool:
        return isinstance(self.op, SourceOp) and self.op.scheme != "docker-image"


def vertices(nodes: Sequence[Node]) -> list[Vertex]:
    made: list[Vertex] = []
    for number, node in enumerate(nodes):
        inputs = tuple(made[index] for index in node.inputs)
        made.append(Vertex(node.op, inputs, node.platform, name=f"step {number}", use_cache=node.use_cache))
    return made


def roots(nodes: Sequence[Node]) -> list[Vertex]:
    return [vertex for vertex, node in zip(vertices(nodes), nodes, strict=True) if not node.is_tree]


#: What each field of an operation may be; small sets, so that steps are often equal or differ in one thing.
RUN_FIELDS: dict[str, Sequence[Any]] = {
    "args": [("x",), ("y",)],
    "env": [(), (("A", "1"),), (("A", "2"),), (("A", "1"), ("B", "2")), (("B", "2"), ("A", "1"))],
    "cwd": ["/", "/made/here"],
    "user": ["", "7", "7:8", "8"],
    "network": ["default", "none", "host"],
    "security": ["sandbox", "insecure"],
    "hostname": ["buildkitsandbox", "h"],
    "shm_size": [0, 1 << 20],
    "ulimits": [(), (("nofile", 1, 1),), (("nofile", 1, 2),)],
    "proxy_env": [(), (("http_proxy", "1"),), (("http_proxy", "2"),), (("no_proxy", "2"),)],
}
HOSTS = [((), ()), (("h",), ("10.0.0.1",)), (("h",), ("10.0.0.2",)), (("g",), ("10.0.0.1",))]
MOUNT_FIELDS: dict[str, dict[str, Sequence[Any]]] = {
    "bind": {"source": ["/", "/d"], "readonly": [True, False]},
    "cache": {
        "id": ["", "c1", "c2"], "sharing": ["shared", "private", "locked"], "readonly": [True, False],
        "mode": [None, 0o755, 0o700], "uid": [0, 7], "gid": [0, 7],
    },
    "tmpfs": {"size": [0, 1 << 20]},
    "secret": {
        "id": ["dev", "prod", "missing"], "mode": [None, 0o400], "uid": [0, 7], "gid": [0, 7],
        "required": [False], "env": ["", "SECRET", "OTHER"],
    },
    "ssh": {"id": ["", "dev", "prod"], "mode": [None, 0o666], "uid": [0, 7], "gid": [0, 7]},
}  # fmt: skip
TARGETS = ["/m", "/n", "/etc/hosts"]
COPY_FIELDS: dict[str, Sequence[Any]] = {
    "sources": [("/",), ("a*",), ("a*", "d*"), ("d*",)],
    "destination": ["/", "/dst/", "/new/dst/"],
    "owner": ["", "1:2", "1"],
    "mode": ["", "700"],
    "exclude": [(), ("x",)],
    "parents": [False, True],
    "add": [False, True],
}
DIRECTORIES = [MakeDirectory("/made"), MakeDirectory("/made", 0o700), MakeDirectory("/made", owner="3")]
WRITES = [WriteFile("f", content, to) for content in (b"1", b"2") for to in ("/w1", "/w2")]


def fields_from(choices: dict[str, Sequence[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw fields; most have their first value, so that graphs hold many nearly equal steps."""
    return st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in choices.items()})


@st.composite
def mounts(draw: st.DrawFn, stacks: Sequence[int], trees: Sequence[int]) -> tuple[RunMount, int | None]:
    """Draw a mount, with the node that it reads instead of the index of an input."""
    kind = draw(st.sampled_from(list(MOUNT_FIELDS)))
    values = draw(fields_from(MOUNT_FIELDS[kind]))
    source = None
    if kind in ("bind", "cache"):
        source = draw(st.sampled_from([None, *stacks, *trees]))
        if source not in trees:  # others may have no such directory
            values.pop("source", None)
    return RunMount(kind, draw(st.sampled_from(TARGETS)), **values), source


@st.composite
def nodes_after(draw: st.DrawFn, stacks: Sequence[int], trees: Sequence[int]) -> Node:
    """Draw a node that may use *stacks* and *trees*."""
    kind = draw(st.sampled_from(["run", "run", "run", "copy", "files", "merge", "image", "tree"]))
    use_cache = draw(st.booleans() | st.just(True))
    if kind == "image":
        name, platform = draw(st.sampled_from(["one", "two"])), draw(st.sampled_from(PLATFORMS))
        return Node(SourceOp("docker-image", name), (), platform, use_cache)
    if kind == "tree":
        scheme, name = draw(st.sampled_from([("local", "context"), ("local", "other"), ("https", "h/t")]))
        return Node(SourceOp(scheme, name), use_cache=use_cache)
    base = draw(st.sampled_from([None, *stacks]))
    inputs = [] if base is None else [base]

    def input_of(node: int | None) -> int | None:
        if node is None:
            return None
        if node not in inputs:
            inputs.append(node)
        return inputs.index(node)

    op: Op
    if kind == "run":
        found = draw(st.lists(mounts(stacks, trees), max_size=2, unique_by=lambda item: item[0].target))
        given = tuple(replace(mount, input=input_of(source)) for mount, source in found)
        names, addresses = draw(st.sampled_from(HOSTS))
        op = RunOp(
            **{"args": ("x",), **draw(fields_from(RUN_FIELDS))}, has_base=base is not None, mounts=given,
            extra_hosts=names, extra_host_addresses=addresses,
        )  # fmt: skip
        return Node(op, tuple(inputs), draw(st.sampled_from([None, *PLATFORMS])), use_cache)
    if kind == "merge" and base is not None and stacks:
        return Node(MergeOp(), (base, draw(st.sampled_from(stacks))), None, use_cache)
    if kind == "copy":
        values = {"sources": ("/",), "destination": "/", **draw(fields_from(COPY_FIELDS))}
        source = input_of(draw(st.sampled_from([None, *stacks, *trees])))
        op = FileOp((Copy(source, **values),), has_base=base is not None)
    else:
        others: list[FileAction] = [*DIRECTORIES, *WRITES]
        op = FileOp((draw(st.sampled_from(others)),), has_base=base is not None)
    return Node(op, tuple(inputs), None, use_cache)


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    """Draw a graph; steps have twins that differ from them in one thing."""
    nodes = [Node(SourceOp("docker-image", "one"), (), PLATFORMS[0]), Node(SourceOp("local", "context"))]
    for _ in range(draw(st.integers(1, 4))):
        stacks = [number for number, node in enumerate(nodes) if not node.is_tree]
        trees = [number for number, node in enumerate(nodes) if node.is_tree]
        nodes.append(draw(nodes_after(stacks, trees)))
        if draw(st.integers(0, 3)):
            nodes.append(draw(changed(nodes[-1])))
    return nodes


def dimensions(node: Node) -> list[Callable[[st.DrawFn], Node]]:
    """Return the ways in which *node* can be changed; what is not in cache keys comes more often than it would by chance."""
    op = node.op

    def with_op(**values: Sequence[Any]) -> Callable[[st.DrawFn], Node]:
        return lambda draw: replace(
            node, op=replace(op, **{name: draw(st.sampled_from(choices)) for name, choices in values.items()})
        )

    def with_hosts(draw: st.DrawFn) -> Node:
        assert isinstance(op, RunOp)
        names, addresses = draw(st.sampled_from(HOSTS))
        return replace(node, op=replace(op, extra_hosts=names, extra_host_addresses=addresses))

    def with_mount(index: int, name: str, choices: Sequence[Any]) -> Callable[[st.DrawFn], Node]:
        assert isinstance(op, RunOp)
        mounts_ = [*op.mounts]

        def change(draw: st.DrawFn) -> Node:
            mounts_[index] = replace(mounts_[index], **{name: draw(st.sampled_from(choices))})
            return replace(node, op=replace(op, mounts=tuple(mounts_)))

        return change

    found: list[Callable[[st.DrawFn], Node]] = [lambda draw: replace(node, use_cache=draw(st.booleans()))]
    if isinstance(op, RunOp):
        found += [with_op(**{name: choices}) for name, choices in RUN_FIELDS.items()]
        found += [with_op(proxy_env=RUN_FIELDS["proxy_env"]), with_hosts, with_hosts]
        found += [lambda draw: replace(node, platform=draw(st.sampled_from([None, *PLATFORMS])))]
        for index, mount in enumerate(op.mounts):
            taken = {other.target for other in op.mounts} - {mount.target}
            fields = {**MOUNT_FIELDS[mount.type], "target": [name for name in TARGETS if name not in taken]}
            for name, choices in fields.items():
                if name != "source" or mount.source:
                    found += [with_mount(index, name, choices)] * (3 if name in ("id", "env") else 1)
    elif isinstance(op, FileOp) and isinstance(op.actions[0], Copy):
        action = op.actions[0]
        for name, choices in COPY_FIELDS.items():
            found += [with_op(actions=[(replace(action, **{name: choice}),) for choice in choices])]
    elif isinstance(op, FileOp):
        found += [with_op(actions=[(action,) for action in (*DIRECTORIES, *WRITES)])]
    elif isinstance(op, SourceOp) and op.scheme == "docker-image":
        found += [with_op(reference=["one", "two"])] * 3
        found += [lambda draw: replace(node, platform=draw(st.sampled_from(PLATFORMS)))]
    return found


@st.composite
def changed(draw: st.DrawFn, node: Node) -> Node:
    """Draw what *node* becomes when one thing is changed (perhaps to what it is)."""
    return draw(st.sampled_from(dimensions(node)))(draw)


@st.composite
def changed_graphs(draw: st.DrawFn) -> tuple[list[Node], list[Node]]:
    """Draw a graph and the same with one node changed."""
    nodes = draw(graphs())
    number = draw(st.integers(0, len(nodes) - 1))
    after = [*nodes]
    after[number] = draw(changed(nodes[number]))
    return nodes, after


# --- changes of the world

WORLD: dict[str, Callable[[World], object]] = {
    "content": lambda world: world.contexts["context"].update({"d/x": ("changed", 0o600)}),
    "mode": lambda world: world.contexts["context"].update({"d/x": ("x", 0o640)}),
    "new file": lambda world: world.contexts["context"].update({"d/z": ("z", 0o644)}),
    "no file": lambda world: world.contexts["other"].pop("d/y"),
    "directory": lambda world: world.modes.update({"d": 0o700}),
    "page": lambda world: setattr(world, "web", "2"),
    "tag": lambda world: world.images.update({"one": "3"}),
    "tag with fewer layers": lambda world: world.images.update({"one": "bare"}),
    "secret": lambda world: world.secrets.update({"dev": "3"}),
    # Whether a secret is there at all is not in the key either, which nothing but the program in the step could tell.
}


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Lab]]:
    """Give a state directory for builds and one for the naive evaluator."""
    with pytest.MonkeyPatch.context() as patch:
        both = Lab(tmp_path_factory.mktemp("lab") / "it", patch), Lab(tmp_path_factory.mktemp("naive") / "it", patch)
        yield both
        for lab in both:
            lab.close()
            shutil.rmtree(lab.directory)


SETTINGS = settings(max_examples=70, suppress_health_check=[HealthCheck.too_slow])


@SETTINGS
@given(nodes=graphs())
def test_every_step_of_a_build_has_its_own_result_and_keeps_it(labs: tuple[Lab, Lab], nodes: list[Node]) -> None:
    world, (lab, naive) = World(), labs
    expected = naive.naive(roots(nodes), world)
    lab.clear()
    for _ in range(2):  # nothing changed: everything is found, and each finds its own
        assert lab.build(roots(nodes), world) == expected


@SETTINGS
@given(graph=changed_graphs(), forgotten=st.none() | st.integers(0, 9))
def test_a_build_after_a_change_of_one_step_gives_nothing_stale(
    labs: tuple[Lab, Lab], graph: tuple[list[Node], list[Node]], forgotten: int | None
) -> None:
    (before, after), world, (lab, naive) = graph, World(), labs
    lab.clear()
    lab.build(roots(before), world, key_only=True)
    if forgotten is not None:
        lab.forget(forgotten)
    assert lab.build(roots(after), world, key_only=True) == naive.naive(roots(after), world, key_only=True)


@SETTINGS
@given(nodes=graphs(), change=st.sampled_from(list(WORLD)))
def test_a_build_after_a_change_outside_gives_nothing_stale(
    labs: tuple[Lab, Lab], nodes: list[Node], change: str
) -> None:
    before, after, (lab, naive) = World(), World(), labs
    WORLD[change](after)
    lab.clear()
    lab.build(roots(nodes), before, key_only=True)
    assert lab.build(roots(nodes), after, key_only=True) == naive.naive(roots(nodes), after, key_only=True)


# --- each field by itself, and each change outside on a graph that reads everything

SOURCES = [
    Node(SourceOp("docker-image", "one"), (), PLATFORMS[0]),
    Node(SourceOp("local", "context")),
    Node(SourceOp("local", "other")),
    Node(SourceOp("https", "h/t")),
    Node(FileOp((WRITES[0],), has_base=False)),
    Node(FileOp((WRITES[1],), has_base=False)),
    Node(RunOp(("below",)), (0,)),
]
IMAGE, CONTEXT, OTHER, WEB, LINKED, OTHER_LINKED, BELOW = range(7)


def run(*mounts_: RunMount, inputs: tuple[int, ...] = (IMAGE,), **values: Any) -> Node:
    return Node(RunOp(**{"args": ("x",), **values}, mounts=mounts_), inputs)


def copied(source: int, **values: Any) -> Node:
    return Node(FileOp((Copy(1, **{"sources": ("/",), "destination": "/", **values}),)), (IMAGE, source))


def each_value() -> Iterator[tuple[str, list[Node]]]:
    """Give for each field of each operation and mount the steps that differ in it alone."""
    for name, choices in RUN_FIELDS.items():
        yield f"run {name}", [run(**{name: choice}) for choice in choices]
    yield "run hosts", [run(extra_hosts=names, extra_host_addresses=addresses) for names, addresses in HOSTS]
    yield "run platform", [replace(run(), platform=platform) for platform in (None, *PLATFORMS)]
    yield "run use_cache", [replace(run(), use_cache=use_cache) for use_cache in (True, False)]
    yield "run base", [run(), run(has_base=False, inputs=()), run(inputs=(BELOW,))]
    for kind, fields in MOUNT_FIELDS.items():
        reads = kind == "bind"
        start = {"input": 1 if reads else None, "source": "/" if reads else ""}
        for name, choices in {**fields, "target": TARGETS}.items():
            mounts_ = [RunMount(kind, **{"target": "/m", **start, name: choice}) for choice in choices]
            yield f"{kind} {name}", [run(mount, inputs=(IMAGE, CONTEXT) if reads else (IMAGE,)) for mount in mounts_]
        if kind in ("bind", "cache"):
            mount = RunMount(kind, "/m", input=1, source="/")
            yield f"{kind} input", [run(mount, inputs=(IMAGE, source)) for source in (CONTEXT, OTHER, WEB)]
    for name, choices in COPY_FIELDS.items():
        yield f"copy {name}", [copied(CONTEXT, **{"destination": "/dst/", name: choice}) for choice in choices]
    yield "copy input", [copied(source) for source in (CONTEXT, OTHER, WEB)]
    yield "merge", [Node(MergeOp(), (base, link)) for base in (IMAGE, BELOW) for link in (LINKED, OTHER_LINKED)]
    yield "directory", [Node(FileOp((action,)), (IMAGE,)) for action in DIRECTORIES]
    yield "file", [Node(FileOp((action,)), (IMAGE,)) for action in WRITES]


VALUES = dict(each_value())


@pytest.mark.parametrize("steps", VALUES.values(), ids=VALUES)
def test_steps_that_differ_in_one_field_never_share_a_result(labs: tuple[Lab, Lab], steps: list[Node]) -> None:
    world, (lab, naive) = World(), labs
    above = [run(args=("above",), inputs=(number,)) for number in range(len(SOURCES), len(SOURCES) + len(steps))]
    together = roots([*SOURCES, *steps, *above])
    expected = naive.naive(together, world)
    lab.clear()
    for _ in range(2):
        assert lab.build(together, world) == expected
    lab.clear()
    for step in (*steps, steps[0]):  # one after the other
        alone = roots([*SOURCES, step, above[0]])
        assert lab.build(alone, world, key_only=True) == naive.naive(alone, world, key_only=True)


READERS = [
    run(RunMount("bind", "/m", input=1, source="/d"), inputs=(IMAGE, CONTEXT)),
    run(RunMount("bind", "/m", input=1, source="/", readonly=False), inputs=(IMAGE, OTHER)),
    run(RunMount("bind", "/m", input=1, source="/"), inputs=(IMAGE, WEB)),
    run(RunMount("secret", "/m", id="dev"), RunMount("secret", "", id="missing", env="MISSING")),
    run(RunMount("cache", "/m", input=1, source="/", id="c"), inputs=(IMAGE, CONTEXT)),
    copied(CONTEXT, sources=("d*",)),
    copied(OTHER),
    copied(WEB, destination="/new/"),
]


@pytest.mark.parametrize("change", WORLD)
def test_whatever_reads_what_changed_outside_is_made_again(labs: tuple[Lab, Lab], change: str) -> None:
    before, after, (lab, naive) = World(), World(), labs
    WORLD[change](after)
    stages = range(len(SOURCES), len(SOURCES) + len(READERS))
    above = [
        node
        for stage in stages
        for node in (copied(stage), run(RunMount("bind", "/m", input=1, source="/"), inputs=(IMAGE, stage)))
    ]
    graph = roots([*SOURCES, *READERS, *above])
    lab.clear()
    lab.build(graph, before, key_only=True)
    for world in (after, before):
        assert lab.build(graph, world, key_only=True) == naive.naive(graph, world, key_only=True)
