"""Do a few things at the same time; the first failure stops all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["run_together"]


def run_together(tasks: Iterable[Callable[[], object]], *, workers: int, stop: Callable[[], None]) -> None:
    """Run *tasks*, at most *workers* at a time, and wait for all of them.

    When one raises, or a signal interrupts the waiting, the others that did not start are dropped, *stop* is called once to end those
    that wait for something, and the first error is raised when all have ended.
    """
    listed = list(tasks)
    if not listed:
        return
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait  # 9 ms; only when there is work

    pool = ThreadPoolExecutor(max_workers=min(workers, len(listed)), thread_name_prefix="together")
    try:
        futures = [pool.submit(task) for task in listed]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in futures:  # in the order of the tasks, so that the same failure gives the same message
            if future in done:
                future.result()
    except BaseException:
        stop()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
