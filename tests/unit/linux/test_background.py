"""One task after the other, beside other work."""

from __future__ import annotations

import threading
from functools import partial

from img_core.linux.parallel import Background


def test_tasks_are_done_in_order_and_a_failure_is_nobodys() -> None:
    background, done, last = Background(), list[int](), threading.Event()
    background.end()  # without any there is nothing to wait for
    for number in range(3):
        background.add(partial(done.append, number))
        background.add(lambda: 1 / 0)
    background.add(last.set)
    assert last.wait(30)
    assert done == [0, 1, 2]
    background.end()


def test_the_end_waits_for_one_and_drops_the_rest() -> None:
    background, done, begun = Background(), list[int](), threading.Event()

    def work(number: int) -> None:
        begun.set()
        threading.Event().wait(0.05)
        done.append(number)

    for number in range(1000):
        background.add(partial(work, number))
    assert begun.wait(30)
    background.end()
    assert 1 <= len(done) < 1000
    assert done == list(range(len(done)))
    background.add(partial(done.append, -1))
    background.add(begun.clear)
    background.end()
    assert -1 in done or begun.is_set(), "what was added later began, or was dropped"
