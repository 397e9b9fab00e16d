"""Work side by side, parts of which have to be alone."""

import threading
from collections.abc import Callable

import pytest

from img_core.linux.parallel import Company


class Crowd:
    """Counts who works, and notes when somebody was not alone who wanted to be."""

    def __init__(self) -> None:
        self.company = Company()
        self.count = 0
        self.lock = threading.Lock()
        self.seen: list[int] = []

    def worker(self, *, alone: bool) -> None:
        with self.company.together(lambda: None):
            with self.lock:
                self.count += 1
            if alone:
                self._alone()
            with self.lock:
                self.count -= 1

    def _alone(self) -> None:
        with self.lock:
            self.count -= 1
        with self.company.alone(lambda: None):
            self.seen.append(self.count)
        with self.lock:
            self.count += 1


def run(*work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_who_is_alone_is_alone_and_all_get_their_turn() -> None:
    crowd = Crowd()
    run(*(lambda n=number: crowd.worker(alone=n % 3 == 0) for number in range(30)))  # type: ignore[misc]  # called with none
    assert crowd.seen == [0] * 10


def test_work_goes_on_side_by_side() -> None:
    company, both = Company(), threading.Barrier(2)

    def worker() -> None:
        with company.together(lambda: None):
            both.wait(30)

    run(worker, worker)


def test_who_works_beside_nobody_can_be_alone_too() -> None:
    company = Company()
    for _ in range(2):
        with company.alone(lambda: None):
            pass
        with company.together(lambda: None), company.alone(lambda: None):
            pass


def test_waiting_can_be_given_up() -> None:
    company = Company()

    def give_up() -> None:
        raise InterruptedError

    with company.together(give_up):
        other = threading.Thread(target=_expect_interruption, args=(company, give_up))
        other.start()
        other.join(30)
        assert not other.is_alive()
        with company.alone(give_up):
            pass


def _expect_interruption(company: Company, give_up: Callable[[], None]) -> None:
    with company.together(lambda: None), pytest.raises(InterruptedError), company.alone(give_up):
        pass
