"""Progress events: few of them, in order, and next to nothing when nobody wants them."""

from __future__ import annotations

import time

import pytest

from img_core.solver import events as module
from img_core.solver.events import Events
from img_core.spec import Canceled, Event, ImgError, StepFinished, StepStarted, StepStatus


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the clocks by one that the test sets."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def listened() -> tuple[Events, list[Event]]:
    events, heard = Events(), list[Event]()
    events.listen(heard.append)
    return events, heard


def test_one_part_is_told_of_ten_times_a_second_and_its_end_always(clock: list[float]) -> None:
    events, heard = listened()
    for tick in range(2000):
        clock[0] = 100.0 + tick / 1000
        events.status("a", "sha256:x", tick, 2000, finished=False)
        if tick % 1000 == 0:
            events.status("a", "sha256:y", tick, 2000, finished=False)
    events.status("a", "sha256:x", 2000, 2000, outcome="done")
    told = [event for event in heard if isinstance(event, StepStatus)]
    assert 20 <= sum(event.text == "sha256:x" for event in told) <= 22
    assert [event.current for event in told if event.text == "sha256:y"] == [0, 1000]
    assert told[-1] == StepStatus("a", "sha256:x", clock[0], 2000, 2000, True, "done")
    events.status("a", "sha256:x", 0, 2000, finished=False)  # it begins anew: told at once
    assert heard[-1] != told[-1]


def test_without_listeners_no_event_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "StepStatus", None)
    Events().status("a", "sha256:x", 1, 2, finished=False)
    Events().status("a", "exporting layers")


def test_news_that_nobody_wants_cost_next_to_nothing() -> None:
    nobody, (somebody, _heard) = Events(), listened()
    best = {}
    for name, events in (("nobody", nobody), ("somebody", somebody)):
        seconds = []
        for _ in range(5):
            began = time.process_time()
            for number in range(20_000):
                events.status("a", "sha256:x", number, 20_000, finished=False)
            seconds.append(time.process_time() - began)
        best[name] = min(seconds) / 20_000
    # Per chunk of 64 KiB or more; generous, for slow and busy machines: 0.1 and 0.2 µs where this was written.
    assert best["nobody"] < 10e-6
    assert best["somebody"] < 20e-6


def test_a_step_that_is_no_vertex_ends_as_its_block_does() -> None:
    events, heard = listened()
    with events.step("good"):
        pass
    for error in (Canceled(), ImgError("bad luck"), RuntimeError("bug")):
        with pytest.raises(type(error)), events.step(str(error)):
            raise error
    assert next(event.name for event in heard if isinstance(event, StepStarted)) == "good"
    ends = [(event.canceled, event.error) for event in heard if isinstance(event, StepFinished)]
    assert ends == [(False, ""), (True, ""), (False, "bad luck"), (False, "RuntimeError('bug')")]


def test_a_step_that_ended_can_go_on(clock: list[float]) -> None:
    events, heard = listened()
    with events.again("a"), events.step("a", "FROM a", ("x",)), events.again("a"):
        pass  # not yet, and not while it works
    assert len(heard) == 2
    for _ in range(2):
        with events.again("a"):
            pass
    with pytest.raises(Canceled), events.again("a"):
        raise Canceled
    assert heard[0] == heard[2] == heard[4] == StepStarted("a", "FROM a", 100.0, ("x",))
    assert heard[-1] == StepFinished("a", 100.0, canceled=True)


def test_a_listener_that_fails_is_dropped() -> None:
    reports: list[str] = []
    events = Events(reports.append)
    heard: list[Event] = []
    events.listen(lambda _event: 1 // 0)  # type: ignore[arg-type,return-value]
    events.listen(heard.append)
    events.status("a", "x")
    events.status("a", "y")
    assert len(heard) == 2
    assert len(reports) == 1


def test_the_time_of_a_step_is_its_own_and_not_that_of_what_it_waits_for(clock: list[float]) -> None:
    events, heard = listened()
    with events.step("run", "RUN x", ("base",)) as report:
        clock[0] += 1  # it looks for its record
        with events.waiting():
            clock[0] += 10
            with events.step("base"):
                clock[0] += 20
        clock[0] += 2  # it runs
        with events.waiting():
            clock[0] += 5
    assert report.waited == 35
    starts = [event for event in heard if isinstance(event, StepStarted) and event.step == "run"]
    ends = {event.step: event.time for event in heard if isinstance(event, StepFinished)}
    assert {event.inputs for event in starts} == {("base",)}
    assert [event.time for event in starts] == [100.0, 130.0, 135.0]
    assert ends["run"] - starts[-1].time == 3, "one second before and two after"
    assert ends["base"] == 131.0


def test_who_works_for_no_step_waits_for_nobody() -> None:
    events, heard = listened()
    with events.waiting():
        pass
    assert heard == []
