import threading
import time
from email.utils import formatdate

import pytest

from img_core.net.retry import Attempts, Failure, Patience, retry_after_seconds
from img_core.spec.errors import Canceled


class FakeStop(threading.Event):
    """Records waits instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0)
        return self.is_set()


def transient(wait: float | None = None) -> Failure:
    return Failure("busy", transient=True, wait=wait)


def test_five_tries_mean_four_pauses_that_grow() -> None:
    stop = FakeStop()
    attempts = Attempts(Patience(), stop)
    with pytest.raises(Failure) as caught:  # noqa: PT012 - which of the calls raises is the claim
        for _ in range(100):
            attempts.wait_or_raise(transient())
    assert len(stop.waits) == 4
    assert all(0 <= pause <= ceiling for pause, ceiling in zip(stop.waits, [0.5, 1, 2, 4], strict=True))
    assert caught.value.tries == 5


def test_pauses_are_spread_over_their_range() -> None:
    stop = FakeStop()
    for _ in range(200):
        Attempts(Patience(first_pause=1.0), stop).wait_or_raise(transient())
    assert min(stop.waits) < 0.2
    assert max(stop.waits) > 0.8


def test_final_failure_is_not_waited_for() -> None:
    stop = FakeStop()
    with pytest.raises(Failure):
        Attempts(Patience(), stop).wait_or_raise(Failure("no", transient=False))
    assert stop.waits == []


def test_server_chooses_the_pause_up_to_a_minute() -> None:
    stop = FakeStop()
    attempts = Attempts(Patience(), stop)
    attempts.wait_or_raise(transient(wait=30))
    assert stop.waits == [30]
    with pytest.raises(Failure, match="asks to wait 61 seconds"):
        attempts.wait_or_raise(transient(wait=61))


def test_waiting_in_all_is_bounded() -> None:
    stop = FakeStop()
    attempts = Attempts(Patience(total_seconds=20), stop)
    with pytest.raises(Failure):
        attempts.wait_or_raise(transient(wait=21))
    assert stop.waits == []


def test_progress_starts_the_count_anew() -> None:
    stop = FakeStop()
    attempts = Attempts(Patience(tries=2), stop)
    for _ in range(10):
        attempts.wait_or_raise(transient())
        attempts.restart()
    assert len(stop.waits) == 10


def test_wait_ends_when_the_client_is_closed() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Canceled):
        Attempts(Patience(), stop).wait_or_raise(transient(wait=50))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("²", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_read_or_ignored(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value) == seconds


def test_retry_after_may_be_a_date() -> None:
    seconds = retry_after_seconds(formatdate(time.time() + 30, usegmt=True))
    assert seconds is not None
    assert 25 < seconds <= 30


def test_absurd_number_of_digits_is_still_a_long_time() -> None:
    seconds = retry_after_seconds("9" * 400)
    assert seconds is not None
    assert seconds > 10**9
