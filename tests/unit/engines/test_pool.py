"""Who gets parts at the same time: nobody is left out for whom there is something to do, also when a worker is lost at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from img_core.forms.event_lines import result_text
from img_core.linux.cancellation import Cancellation
from img_core.spec.engine import EngineHandle, EngineTask, EngineWorker
from img_core.spec.errors import ImgError
from img_core.spec.graph import RunOp, Vertex
from img_core.spec.host import Host
from img_core.testing.results import host
from img_lib_engines.cut import Cut, CutPart
from img_lib_engines.pool import Pool, share, slots
from img_lib_engines.sharing import TaskEngine

AMD64, ARM64 = "linux/amd64", "linux/arm64"
MANY = tuple(EngineWorker(f"amd-{number}", (AMD64,), 8) for number in range(40))
ARM = EngineWorker("arm", (ARM64,), 2)


def parts(*platforms: str) -> list[CutPart]:
    return [CutPart(Vertex(RunOp((str(number),))), (), (), platform) for number, platform in enumerate(platforms)]


@pytest.mark.parametrize(
    ("wanted", "workers", "trusted", "names"),
    [
        pytest.param(["", "", ARM64], (*MANY, ARM), (), ["amd-0", "amd-1", "arm"], id="the-only-one-of-a-platform"),
        pytest.param(["", ""], (*MANY, ARM), ("amd-39",), ["amd-39", "amd-0"], id="who-may-see-secrets"),
        pytest.param(["", "", ""], MANY[:2], (), ["amd-0", "amd-1", "amd-0"], id="all-before-any-twice"),
        pytest.param([ARM64] * 5, (ARM,), (), ["arm", "arm"], id="no-more-than-it-can-do"),
        pytest.param([], MANY, (), [], id="nothing-to-do"),
    ],
)
def test_slots(
    wanted: list[str], workers: tuple[EngineWorker, ...], trusted: tuple[str, ...], names: list[str]
) -> None:
    assert [worker.name for worker in slots(workers, parts(*wanted), AMD64, trusted)] == names


class Lossy(TaskEngine):
    """Its one worker takes a task, and is lost when this machine has nothing else to do any more."""

    name = "lossy"

    def __init__(self, on: Host) -> None:
        super().__init__(on)
        self.taken = threading.Event()

    def capacity(self) -> tuple[EngineWorker, ...]:
        return (EngineWorker("far", (AMD64,)),)

    def submit(self, task: EngineTask, tell: Callable[[str], None]) -> EngineHandle:
        self.taken.set()
        return Lost()

    def cancel(self, handle: EngineHandle) -> None:
        raise AssertionError("nobody cancels")


class Lost(EngineHandle):
    def wait(self) -> None:
        for thread in threading.enumerate():
            if thread.name == "engine-0":
                thread.join(0.5)  # by then it has ended, or waits for more
        raise ImgError("the worker was lost")


def test_a_part_that_comes_back_at_the_end_is_done_by_who_is_left(tmp_path: Path) -> None:
    engine, done, cancellation = Lossy(host(tmp_path)), list[str](), Cancellation()

    def do_here(text: str, hear: Callable[[str], None], cancel_fd: int) -> None:
        assert engine.taken.wait(30)
        done.append(text)
        hear(result_text(1, 0))

    build = MagicMock(cancel_fd=cancellation.fd, do_here=do_here)
    build.task = lambda targets, _secrets, **_more: targets[0].digest
    found = Cut(tuple(parts("", "")))
    pool = Pool(found, engine, engine.capacity(), build)
    running = threading.Thread(target=pool.run, daemon=True)
    running.start()
    running.join(30)
    assert not running.is_alive(), "somebody waits for who has left"
    assert sorted(done) == sorted(part.digest for part in found.parts)
    cancellation.close()


@pytest.mark.parametrize(("is_here", "sharing"), [(False, {1, 2}), (True, {3})])
def test_each_task_knows_how_many_share_its_machine(tmp_path: Path, is_here: bool, sharing: set[int]) -> None:
    engine, cancellation, told = Lossy(host(tmp_path)), Cancellation(), set[int]()
    engine.is_here = is_here  # type: ignore[misc]  # of this object
    found = Cut(tuple(parts("", "", "")))

    def task(targets: list[Vertex], secrets: set[str], *, saved: bool, sharing: int) -> str:
        told.add(sharing)
        return ""

    build = MagicMock(cancel_fd=cancellation.fd, task=task, do_here=lambda _text, hear, _fd: hear(result_text(1, 0)))
    pool = Pool(found, engine, (EngineWorker("far", (AMD64,), 2),), build)
    for place in pool._places:  # here, and twice there
        pool._do(place, found.parts[:1])
    assert told == sharing
    cancellation.close()


def timed(*seconds: float | None) -> list[CutPart]:
    return [CutPart(Vertex(RunOp((str(number),))), (), (), seconds=time) for number, time in enumerate(seconds)]


@pytest.mark.parametrize(
    ("seconds", "places", "usual", "count"),
    [
        pytest.param([None] * 4, 3, None, 1, id="nobody-knows"),
        pytest.param([None] * 200, 2, None, 25, id="very-many-that-nobody-knows"),
        pytest.param([60.0] * 4, 2, None, 1, id="long-ones"),
        pytest.param([1.5] * 4, 2, None, 1, id="two-would-be-too-long"),
        pytest.param([0.015] * 200, 2, None, 100, id="short-ones-are-shared-evenly"),
        pytest.param([None] * 150, 2, 0.02, 75, id="short-ones-as-those-before"),
        pytest.param([None] * 150, 2, 5.0, 18, id="long-ones-as-those-before"),
        pytest.param([None] * 4, 2, 0.1, 2, id="no-more-than-a-share-where-others-were-short"),
        pytest.param([0.05] * 8, 2, None, 8, id="what-is-left-is-not-worth-two-tasks"),
        pytest.param([0.25] * 40, 2, None, 8, id="some-short-ones"),
        pytest.param([60.0, 0.1, 0.1], 2, None, 1, id="a-long-one-goes-alone"),
    ],
)
def test_how_many_parts_are_one_task(seconds: list[float | None], places: int, usual: float | None, count: int) -> None:
    assert share(timed(*seconds), places, usual) == count


def test_who_alone_is_idle_takes_what_is_left() -> None:
    assert share(timed(*[None] * 2), 2, 0.1, idle=1) == 2
    assert share(timed(*[0.015] * 100), 2, None, idle=1) == 100
    assert share(timed(*[60.0] * 8), 2, None, idle=1) == 1


class Expecting(TaskEngine):
    """Does every task at once; *heard* is what its two workers were told to expect, and which tasks they got."""

    name = "expecting"

    def __init__(self, on: Host, heard: list[str]) -> None:
        super().__init__(on, {"home": 0})
        self.heard = heard

    def capacity(self) -> tuple[EngineWorker, ...]:
        return (EngineWorker("far", (AMD64,), 2),)

    def expect(self, workers: Collection[str]) -> None:
        self.heard.extend(f"expect {name}" for name in workers)

    def submit(self, task: EngineTask, tell: Callable[[str], None]) -> EngineHandle:
        self.heard.append("task")
        tell(result_text(1, 0))
        return Done()

    def cancel(self, handle: EngineHandle) -> None:
        raise AssertionError("nobody cancels")


class Done(EngineHandle):
    def wait(self) -> None:
        pass


def test_workers_expect_tasks_before_these_can_be_handed_over_and_as_long_as_there_are_more(tmp_path: Path) -> None:
    heard, cancellation = list[str](), Cancellation()
    base, other = parts("", "")
    after = CutPart(Vertex(RunOp(("after",))), (), (base.digest,), "", 60.0)
    first = CutPart(base.target, (), (), "", 60.0)
    build = MagicMock(cancel_fd=cancellation.fd, provide=lambda _steps: heard.append("provide"))
    engine = Expecting(host(tmp_path), heard)
    Pool(Cut((first, after)), engine, (EngineWorker("far", (AMD64,)),), build).run()
    assert heard == ["expect far", "provide", "task", "expect far", "task"]
    del heard[:]
    Pool(Cut((first, other)), engine, engine.capacity(), build).run()
    assert heard[:2] == ["expect far", "provide"]  # two tasks at the same time are one worker
    cancellation.close()
