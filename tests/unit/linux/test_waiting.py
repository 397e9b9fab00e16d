"""A signal is heard while the main thread waits, also one that interrupts nothing: here another thread gets it."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from img_core.forms.event_lines import result_text
from img_core.linux import waiting
from img_core.linux.cancellation import Cancellation
from img_core.linux.parallel import run_together
from img_core.linux.scheduler import Scheduler
from img_core.spec.graph import RunOp, Vertex
from img_lib_containers.containers import wait_or_kill
from img_lib_engines.cut import Cut, CutPart
from img_lib_engines.pool import Pool

Work = Callable[[], None]

VERTEX = Vertex(RunOp(("x",)))


@pytest.fixture
def heard() -> Iterator[threading.Event]:
    """Give what the handler of a signal sets."""
    event = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: event.set())
    yield event
    signal.signal(signal.SIGUSR1, before)


def main_thread_waits() -> bool:
    """Tell whether the main thread sleeps, and does so for a while: not for the interpreter, which nobody has then."""
    for _ in range(10):
        time.sleep(0.01)
        if Path(f"/proc/self/task/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[0] != "S":
            return False
    return True


def beside(*works: Callable[[], object]) -> threading.Thread:
    def do() -> None:
        for work in works:
            work()

    thread = threading.Thread(target=do)
    thread.start()
    return thread


def wait_for_a_thread(work: Work) -> None:
    waiting.join(beside(work))


def wait_for_an_event(work: Work) -> None:
    done = threading.Event()
    thread = beside(work, done.set)
    waiting.until_set(done)
    thread.join()


def wait_for_a_descriptor(work: Work) -> None:
    descriptor, poll = os.eventfd(0), select.poll()
    poll.register(descriptor, select.POLLIN)
    thread = beside(work, lambda: os.eventfd_write(descriptor, 1))
    assert waiting.ready(poll) == [(descriptor, select.POLLIN)]
    thread.join()
    os.close(descriptor)


def wait_for_tasks(work: Work) -> None:
    run_together([work, lambda: None], workers=2, stop=lambda: None)


def wait_for_steps(work: Work) -> None:
    cancellation = Cancellation()
    scheduler: Scheduler[Vertex, None] = Scheduler(lambda _vertex, _inputs: work(), cancellation, workers=2)
    scheduler.run([VERTEX])
    cancellation.close()


def wait_for_machines(work: Work) -> None:
    def do_here(_text: str, hear: Callable[[str], None], _cancel_fd: int) -> None:
        work()
        hear(result_text(1, 0))

    cancellation = Cancellation()
    build = MagicMock(cancel_fd=cancellation.fd, do_here=do_here)
    engine = MagicMock(options={})
    Pool(Cut((CutPart(VERTEX, (), ()),)), engine, (), build).run()
    cancellation.close()


def wait_for_a_container(work: Work) -> None:
    ended = os.eventfd(0)  # of a pidfd all that counts is when it becomes readable
    thread = beside(work, lambda: os.eventfd_write(ended, 1))
    assert wait_or_kill(MagicMock(pidfd=ended, wait=lambda: 7), -1) == (7, False)
    thread.join()
    os.close(ended)


@pytest.mark.parametrize(
    "wait",
    [
        wait_for_a_thread, wait_for_an_event, wait_for_a_descriptor, wait_for_tasks, wait_for_steps, wait_for_machines,
        wait_for_a_container,
    ],
)  # fmt: skip
def test_a_signal_that_interrupts_nothing_is_heard(wait: Callable[[Work], None], heard: threading.Event) -> None:
    in_time = []

    def work() -> None:
        while not main_thread_waits():
            pass
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        in_time.append(heard.wait(20))

    wait(work)
    assert in_time == [True]
