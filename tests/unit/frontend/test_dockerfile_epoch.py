"""``SOURCE_DATE_EPOCH``: numbers, and names of what has a time."""

import pytest
from frontend_support import DictResolver, env, failure, history, plan, run

from img_core.spec.graph import SourceOp

GIT = "https://h.example/r.git"
TIMES = {"context": 5, GIT: 6, "https://h.example/x.tar": 7}
DATED = "ARG SOURCE_DATE_EPOCH\nENV E=$SOURCE_DATE_EPOCH"
CONTEXTS = {"src": ("git", GIT), "dir": ("local", "dir"), "img": ("docker-image", "b")}


def resolver(**contexts: tuple[str, str]) -> DictResolver:
    return DictResolver(contexts={**CONTEXTS, **contexts}, times=TIMES)


@pytest.mark.parametrize(
    ("name", "epoch"),
    [("context", 5), ("src", 6), ("dir", None), ("img", None), ("adds", 7), ("ADDS", 7), ("12", 12)],
)
@pytest.mark.parametrize("way", ["argument", "default"])
def test_a_name_stands_for_the_time_of_what_it_names(name: str, epoch: int | None, way: str) -> None:
    text = "FROM scratch AS adds\nADD https://h.example/x.tar /\nFROM b\n" + DATED
    args = {"SOURCE_DATE_EPOCH": name} if way == "argument" else {}
    text = text if way == "argument" else f"ARG SOURCE_DATE_EPOCH={name}\n{text}"
    assert plan(text, args=args, resolver=resolver()).source_date_epoch == epoch
    assert env(text, args=args, resolver=resolver())["E"] == ("" if epoch is None else str(epoch))


@pytest.mark.parametrize(
    "stage", ["FROM scratch AS s\nADD f /", "FROM b AS s\nADD https://h/x /", "FROM scratch AS s\nADD https://h/x https://h/y /",
              "FROM scratch AS s\nADD https://h/x /\nADD https://h/y /", "FROM scratch AS s\nCOPY f /"],
)  # fmt: skip
def test_a_stage_must_be_one_remote_add(stage: str) -> None:
    error = failure(f"{stage}\nFROM b", args={"SOURCE_DATE_EPOCH": "s"})
    assert error.message == "invalid SOURCE_DATE_EPOCH: s"
    assert error.hint == "stage `s` must be `FROM scratch` and one ADD of a URL or repository"


def test_the_source_of_a_stage_is_the_one_that_the_stage_adds() -> None:
    asked: list[SourceOp] = []

    class Recorder(DictResolver):  # type: ignore[misc]  # of a module beside this one
        def source_time(self, op: SourceOp) -> int | None:
            asked.append(op)
            return 6

    text = f"ARG REF=v1\nFROM scratch AS s\nARG REF\nADD {GIT}#$REF /\nFROM s"
    assert plan(text, args={"SOURCE_DATE_EPOCH": "s"}, resolver=Recorder()).source_date_epoch == 6
    assert [(op.scheme, op.reference) for op in asked] == [("git", f"{GIT}#v1")]


def test_an_unknown_name_is_refused_with_what_may_stand_there() -> None:
    error = failure("FROM b", args={"SOURCE_DATE_EPOCH": "abc"})
    assert error.message == "invalid SOURCE_DATE_EPOCH: abc"
    assert "`context`" in (error.hint or "")


def test_a_default_in_a_stage_is_only_text() -> None:
    text = "FROM b\nARG SOURCE_DATE_EPOCH=context\nENV E=$SOURCE_DATE_EPOCH"
    assert plan(text, resolver=resolver()).source_date_epoch is None
    assert env(text, resolver=resolver())["E"] == "context"


@pytest.mark.parametrize("head", ["", "ARG SOURCE_DATE_EPOCH=5\n", "ARG SOURCE_DATE_EPOCH\n"])
def test_an_empty_argument_is_no_epoch_and_no_variable(head: str) -> None:
    text, args = f"{head}FROM b\nARG SOURCE_DATE_EPOCH\nRUN x", {"SOURCE_DATE_EPOCH": ""}
    assert plan(text, args=args).source_date_epoch is None
    assert "SOURCE_DATE_EPOCH" not in dict(run(text, args=args).env)
    assert history(text, args=args)[0] == "ARG SOURCE_DATE_EPOCH"
