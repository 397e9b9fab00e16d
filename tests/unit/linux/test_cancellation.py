"""Stopping what computes."""

import signal
import threading
from collections.abc import Iterator

import pytest

from img_core.linux.cancellation import Cancellation
from img_core.spec.errors import Canceled


@pytest.fixture
def cancellation() -> Iterator[Cancellation]:
    made = Cancellation()
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: made.cancel(number))
    yield made
    signal.signal(signal.SIGUSR1, before)
    made.close()


def interrupt(reached: list[str]) -> None:
    """Get the signal, if it does not raise."""
    signal.raise_signal(signal.SIGUSR1)
    reached.append("behind the signal")


def test_signal_raises_where_the_block_computes(cancellation: Cancellation) -> None:
    reached: list[str] = []
    with pytest.raises(Canceled) as raised, cancellation.interrupting():
        interrupt(reached)
    assert (raised.value.signum, reached) == (signal.SIGUSR1, [])


def test_signal_outside_only_sets_the_flag(cancellation: Cancellation) -> None:
    reached: list[str] = []
    with cancellation.interrupting():
        pass
    interrupt(reached)
    assert (cancellation.canceled, reached) == (True, ["behind the signal"])
    with pytest.raises(Canceled), cancellation.interrupting():
        pytest.fail("a block is not entered when it is too late")


def test_what_must_not_stop_is_finished_first(cancellation: Cancellation) -> None:
    reached: list[str] = []

    def work() -> None:
        with cancellation.interrupting(False):
            interrupt(reached)
        reached.append("behind the work")

    with pytest.raises(Canceled), cancellation.interrupting():
        work()
    assert reached == ["behind the signal"]


def test_other_threads_are_not_interrupted(cancellation: Cancellation) -> None:
    done: list[str] = []

    def cancel() -> None:
        cancellation.cancel()
        done.append("in the thread")

    def work() -> None:
        thread = threading.Thread(target=cancel)
        thread.start()
        thread.join()
        done.append("here")

    with pytest.raises(Canceled), cancellation.interrupting():
        work()
    assert done == ["in the thread", "here"]
