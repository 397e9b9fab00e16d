"""Plans that are written as JSON and read again are the same; what is no plan is one line."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from img_core.forms.plan_json import _JSON, plan_digest, plan_from_json, plan_to_json
from img_core.spec.errors import UsageError
from img_core.spec.frontend import HistoryEntry, Plan, PlannedImage
from img_core.spec.graph import Copy, FileOp, Location, RunMount, RunOp, SourceOp, Vertex, WriteFile
from img_core.spec.values import Platform

TEXT = st.text(st.characters(exclude_categories=[]), max_size=5)  # with lone surrogates: names of files are bytes
JSON = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT, max_size=2), max_size=2)
PLAIN: Mapping[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(-5, 1 << 40),
    bool: st.booleans(),
    bytes: st.binary(max_size=5),
    type(None): st.none(),
}


def values(hint: Any, vertices: list[Vertex]) -> st.SearchStrategy[Any]:
    """Give values of a type that a plan may hold, made by the fields that its classes have, whichever these will be."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Vertex:
        return st.sampled_from(vertices) if vertices else st.nothing()
    if isinstance(hint, typing.NewType):
        return values(hint.__supertype__, vertices)
    if hint in PLAIN:
        return PLAIN[hint]
    if origin is tuple and inner == (Vertex, ...) and not vertices:
        return st.just(())
    if origin is tuple and inner[-1] is Ellipsis:
        return st.lists(values(inner[0], vertices), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*(values(item, vertices) for item in inner))
    if is_dataclass(hint):
        return made(typing.cast("type", hint), vertices)
    if inner and origin is not Mapping and origin.__name__ != "Mapping":
        return st.one_of([values(item, vertices) for item in inner])
    return JSON


def made(cls: type, vertices: list[Vertex]) -> st.SearchStrategy[Any]:
    hints = {item.name: _JSON.hints(cls)[item.name] for item in fields(cls) if item.init and item.name != "warnings"}  # type: ignore[arg-type]
    return st.builds(cls, **{name: values(hint, vertices) for name, hint in hints.items()})


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    vertices: list[Vertex] = []
    for _ in range(draw(st.integers(1, 4))):
        vertices.append(draw(made(Vertex, vertices)))
    plan: Plan = draw(made(Plan, vertices))
    return plan


@settings(deadline=None, max_examples=40)
@given(plan=plans())
def test_what_was_written_and_read_is_the_same(plan: Plan) -> None:
    document = plan_to_json(plan)
    text = json.dumps(document)
    again = plan_from_json(json.loads(text))
    assert plan_to_json(again) == json.loads(text)
    assert [image.root and image.root.digest for image in again.images] == [
        image.root and image.root.digest for image in plan.images
    ]
    assert plan_digest(json.loads(text)) == plan_digest(document)


def small() -> dict[str, Any]:
    amd64 = Platform("linux", "amd64")
    base = Vertex(SourceOp("docker-image", "busybox"), platform=amd64, name="base")
    run = Vertex(
        RunOp(("sh",), mounts=(RunMount("bind", "/m", 1),)), (base, base), amd64, "RUN sh", Location("D", 1, 2)
    )
    files = FileOp((Copy(1, ("a",), "/b"), WriteFile("n", b"\xff", "/c")))
    copy = Vertex(files, (run, base), amd64)
    return plan_to_json(
        Plan((PlannedImage(amd64, copy, {"config": {"Env": ["A=1"]}}, (HistoryEntry("x", vertex=copy),)),))
    )


def test_a_vertex_that_several_read_stays_one() -> None:
    plan = plan_from_json(small())
    root = plan.images[0].root
    assert root is not None
    assert root.inputs[1] is root.inputs[0].inputs[0]
    assert plan.images[0].history[0].vertex is root
    assert len(small()["vertices"]) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda d: d.update(schema="x"), "no plan", id="another-schema"),
        pytest.param(lambda d: d.update(version=2), "version 2", id="a-later-version"),
        pytest.param(lambda d: d.update(vertices=3), "`vertices`", id="no-list"),
        pytest.param(lambda d: d["vertices"][1]["op"].update(novel=1), "`novel`", id="a-field-of-a-later-version"),
        pytest.param(
            lambda d: d["vertices"][1].update(op={"$": "TeleportOp"}), "op", id="an-operation-of-a-later-version"
        ),
        pytest.param(lambda d: d["vertices"][0].update(inputs=[{"$vertex": 0}]), "before it", id="a-circle"),
        pytest.param(lambda d: d["vertices"][1].update(inputs=[{"$vertex": -1}]), "before it", id="a-negative-number"),
        pytest.param(lambda d: d["vertices"][1]["op"].pop("args"), "lacks", id="a-missing-field"),
        pytest.param(lambda d: d["vertices"][1]["op"].update(args="sh"), "args", id="text-for-a-list"),
        pytest.param(lambda d: d["vertices"][1]["op"].update(shm_size=True), "shm_size", id="truth-for-a-number"),
        pytest.param(
            lambda d: d["vertices"][2]["op"]["actions"][1].update(content={"$bytes": "!"}), "bytes", id="no-base64"
        ),
        pytest.param(
            lambda d: d["vertices"][0].update(platform=["linux", "amd64"]), "platform", id="a-list-for-an-object"
        ),
    ],
)
def test_what_is_no_plan_is_refused_in_one_line(change: Any, said: str) -> None:
    document = small()
    change(document)
    with pytest.raises(UsageError) as caught:
        plan_from_json(document)
    assert said in caught.value.message
    assert "\n" not in caught.value.message
