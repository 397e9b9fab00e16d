"""A worker consumes blocks in order, in a thread only where there are many bytes; what it fails with is its caller's."""

from __future__ import annotations

import threading

import pytest

from img_core.linux import parallel
from img_core.linux.parallel import Worker

BLOCK = b"0123456789"


@pytest.mark.parametrize(("after", "beside"), [(0, 20), (10, 19), (199, 1), (200, 0)])
def test_a_thread_begins_after_so_many_bytes_and_keeps_the_order(
    after: int, beside: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_HERE", after)
    consumed: list[tuple[bytes, bool]] = []
    with Worker(
        lambda block: consumed.append((block, threading.current_thread() is threading.main_thread())),
        name="test",
    ) as worker:
        for number in range(20):
            worker.put(b"%010d" % number)
    assert [int(block) for block, _ in consumed] == list(range(20))
    assert [here for _, here in consumed].count(False) == beside


@pytest.mark.parametrize("after", [0, 1000], ids=["thread", "here"])
def test_what_consuming_fails_with_is_raised(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_HERE", after)
    consumed = []

    def consume(block: bytes) -> None:
        consumed.append(block)
        raise OSError("full")

    def work() -> None:
        with Worker(consume, name="test") as worker:
            for _ in range(100):
                worker.put(BLOCK)

    with pytest.raises(OSError, match="full"):
        work()
    assert consumed == [BLOCK], "and nothing behind it is consumed"


def test_the_error_of_the_caller_stays_and_what_is_queued_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_HERE", 0)
    going, consumed = threading.Event(), []

    def consume(block: bytes) -> None:
        assert going.wait(60)
        consumed.append(block)

    def work() -> None:
        with Worker(consume, name="test") as worker:
            for _ in range(3):
                worker.put(BLOCK)
            threading.Timer(0.05, going.set).start()
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        work()
    assert len(consumed) <= 1


def test_where_no_thread_can_be_had_the_caller_consumes(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(parallel, "_HERE", 0)
    monkeypatch.setattr(threading.Thread, "start", start)
    consumed: list[bytes] = []
    with Worker(consumed.append, name="test") as worker:
        for _ in range(3):
            worker.put(BLOCK)
    assert consumed == [BLOCK] * 3
