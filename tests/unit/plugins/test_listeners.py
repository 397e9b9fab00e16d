"""Listeners are called as pluggy calls, wrappers included; who fails is told and stops nobody; who is slow delays nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from img_core.linux import outbox
from img_core.plugins import Telling, notify
from img_core.plugins import _telling as module
from img_core.plugins._discovery import Found
from img_core.plugins._register import hook_manager, register_listener
from img_core.spec import Attestation, Canceled, ImgError, PluginError, StepLog, StepStarted, hookimpl

CALLED: list[str] = []


class Module:
    """Stands for the module of a listener."""


@pytest.fixture(autouse=True)
def nothing_called() -> None:
    CALLED.clear()


def listening(**modules: dict[str, Any]) -> Any:
    """Return the hooks of listeners by these names; each value maps hooks to implementations."""
    manager = hook_manager()
    for name, implementations in modules.items():
        plugin = Module()
        for hook, function in implementations.items():
            setattr(plugin, hook, function)
        register_listener(manager, Found("listener", name, f"their_{name}", f"their-{name}", "1.5"), plugin)
    return manager.hook


@hookimpl
def good(vertex: str) -> None:
    CALLED.append(f"good {vertex}")


@hookimpl
def bad(vertex: str) -> None:
    raise ValueError("bad luck")


@hookimpl(wrapper=True)
def around(vertex: str) -> Iterator[None]:
    CALLED.append("before")
    result = yield
    CALLED.append("after")
    return result


@hookimpl(hookwrapper=True)
def old_around(vertex: str) -> Iterator[None]:
    CALLED.append("before")
    yield
    CALLED.append("after")


@hookimpl(wrapper=True)
def fails_before(vertex: str) -> Iterator[None]:
    raise ValueError("early")
    yield


@hookimpl(wrapper=True)
def fails_after(vertex: str) -> Iterator[None]:
    yield
    raise ValueError("late")


@hookimpl(hookwrapper=True)
def old_fails_after(vertex: str) -> Iterator[None]:
    yield
    raise ValueError("late")


@hookimpl(wrapper=True)
def never_yields(vertex: str) -> Iterator[None]:
    if not vertex:
        yield


@hookimpl(wrapper=True)
def yields_twice(vertex: str) -> Iterator[None]:
    yield
    yield


ONE, TWO = "plugin listener:one of their-one 1.5 failed: ", " (in `img_step_finished`)"


@pytest.mark.parametrize(
    ("implementations", "called", "failures"),
    [
        ([good], ["good v"], []),
        ([bad], ["good v"], ["ValueError: bad luck"]),
        ([around], ["before", "good v", "after"], []),
        ([old_around], ["before", "good v", "after"], []),
        ([fails_before], ["good v"], ["ValueError: early"]),
        ([fails_after], ["good v"], ["ValueError: late"]),
        ([old_fails_after], ["good v"], ["ValueError: late"]),
        ([never_yields], ["good v"], ["StopIteration"]),
        ([yields_twice], ["good v"], ["RuntimeError: it yields twice"]),
        ([bad, around], ["before", "good v", "after"], ["ValueError: bad luck"]),
    ],
    ids=lambda value: "+".join(item.__name__ for item in value) if value and callable(value[0]) else None,
)
def test_every_listener_is_called_with_wrappers_and_each_failure_has_its_owner(
    implementations: list[Any], called: list[str], failures: list[str]
) -> None:
    names = ("one", "two")[: len(implementations)]
    modules = {name: {"img_step_finished": item} for name, item in zip(names, implementations, strict=True)}
    if implementations != [good]:
        modules = {"last": {"img_step_finished": good}, **modules}
    found = notify(listening(**modules), "img_step_finished", vertex="v", cached=False, seconds=0.0)
    assert called == CALLED
    assert [failure.message for failure in found] == [f"{ONE}{text}{TWO}" for text in failures]
    assert all(failure.hint == "do without: `--no-plugin listener:one`" for failure in found)


def test_a_policy_stops_the_build_and_a_wrapper_sees_it() -> None:
    @hookimpl
    def refuse(plan: str) -> None:
        raise ImgError(f"no {plan}")

    @hookimpl(wrapper=True)
    def watch(plan: str) -> Iterator[None]:
        try:
            return (yield)
        except ImgError as err:
            CALLED.append(err.message)
            raise

    hooks = listening(policy={"img_build_planned": refuse}, watcher={"img_build_planned": watch})
    with pytest.raises(ImgError, match=r"^no plan$"):
        hooks.img_build_planned(plan="plan")
    assert CALLED == ["no plan"]


# --- the queue -------------------------------------------------------------------------------------------------


def event(number: int) -> StepStarted:
    return StepStarted(str(number), f"step {number}", 0.0)


def telling(**modules: Any) -> tuple[Telling, SimpleNamespace]:
    told = SimpleNamespace(failures=[], warnings=[])
    return Telling(listening(**modules), told.failures.append, told.warnings.append), told


def test_listeners_hear_everything_in_order_from_one_thread_before_the_build_ends() -> None:
    heard: list[Any] = []
    threads = set()

    @hookimpl
    def img_event(event: Any) -> None:
        threads.add(threading.get_ident())
        heard.append(event)

    @hookimpl
    def img_step_finished(vertex: Any) -> None:
        threads.add(threading.get_ident())
        heard.append(vertex)

    queue, told = telling(one={"img_event": img_event, "img_step_finished": img_step_finished})
    with queue:
        for number in range(500):
            queue.tell("img_event", event=event(number))
        queue.tell("img_step_finished", vertex="v", cached=False, seconds=0.0)
    assert heard == [*map(event, range(500)), "v"]
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert (told.failures, told.warnings) == ([], [])
    queue.tell("img_event", event=event(0))
    assert len(heard) == 501


def test_without_listeners_there_is_no_thread() -> None:
    before = threading.active_count()
    queue, _ = telling()
    with queue:
        queue.tell("img_event", event=event(1))
        assert threading.active_count() == before
    assert not queue.hears("img_event")


def stuck() -> tuple[dict[str, Any], threading.Event, threading.Event]:
    """Return a listener that hangs, an event that it sets when it does, and one that lets it go."""
    reached, release = threading.Event(), threading.Event()

    @hookimpl
    def img_event(event: Any) -> None:
        reached.set()
        release.wait(30)

    return {"img_event": img_event}, reached, release


@pytest.mark.parametrize("error", [None, Canceled()])
def test_a_listener_that_hangs_delays_nobody_and_is_named_once(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.05 if error is None else 60)
    listener, reached, release = stuck()
    queue, told = telling(slow=listener)
    began = time.monotonic()
    try:
        with queue:
            for number in range(11):
                queue.tell("img_event", event=event(number))
            assert time.monotonic() - began < 5
            assert reached.wait(30)
            if error is not None:
                raise error
    except Canceled:
        pass
    assert time.monotonic() - began < 20
    assert told.warnings == [
        "plugin listener:slow of their-slow 1.5 is not waited for, it is too slow; 10 events are left out"
    ]
    release.set()


def test_output_does_not_pile_up_before_a_slow_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST_BYTES", 100)
    listener, reached, release = stuck()
    queue, told = telling(slow=listener)
    with queue:
        queue.tell("img_event", event=event(1))
        assert reached.wait(30)
        for _ in range(25):
            queue.tell("img_event", event=StepLog("a", 1, b"ten bytes.", 0.0))
        queue.tell("img_event", event=event(2))  # what is no output is never left out
        assert len(queue._outbox._waiting) == 11
        release.set()
    assert told.warnings == ["plugin listener:slow of their-slow 1.5 is too slow: 15 events were left out"]


def test_a_failing_listener_goes_on_to_be_called() -> None:
    @hookimpl
    def img_event(event: Any) -> None:
        CALLED.append(event.step)
        raise ValueError(event.step)

    queue, told = telling(weak={"img_event": img_event})
    with queue:
        for number in range(3):
            queue.tell("img_event", event=event(number))
    assert CALLED == ["0", "1", "2"]
    assert len(told.failures) == 3


ANSWERS = {
    "no addition": ("img_run_planned", lambda vertex: {"env": {}}, "a RunAddition or None, not dict"),
    "no source": ("img_source_wanted", lambda source: "alpine", "a SourceOp or None, not str"),
    "no statements": ("img_image_built", lambda image: 5, "a list of Attestation or None, not int"),
    "no JSON": ("img_image_built", lambda image: [Attestation("a:b", {"a": {2}})], "attestations that are JSON (a:b: "),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_an_answer_that_is_none_is_told_with_who_gave_it(what: str) -> None:
    hook, function, text = ANSWERS[what]
    hooks = listening(one={hook: hookimpl(function)})
    subjects: dict[str, tuple[str, ...]] = {
        "img_run_planned": ("vertex",),
        "img_source_wanted": ("source",),
        "img_image_built": ("image", "names"),
    }
    with pytest.raises(PluginError) as caught:
        getattr(hooks, hook)(**dict.fromkeys(subjects[hook]))
    assert caught.value.message.startswith("plugin listener:one of their-one 1.5 must return " + text)
    assert f" from `{hook}`" in caught.value.message
