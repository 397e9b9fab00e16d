"""Run a part of a test in a process of its own, also inside of the user namespace, which the test process itself must not enter."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.spec.host import IdMapping

__all__ = ["mappings", "run_forked", "run_inside"]


def mappings() -> tuple[IdMapping, ...]:
    """Return the id mappings that this user can try."""
    return ("root", "single") if os.geteuid() == 0 else ("full", "single")


def run_inside(mapping: IdMapping, work: Callable[[], None]) -> None:
    """Call *work* in a forked process that entered a namespace with *mapping*; a failure there is an AssertionError here."""

    def entered() -> None:
        _enter(mapping)
        work()

    run_forked(entered)


def run_forked(work: Callable[[], None]) -> None:
    """Call *work* in a forked process; a failure there is an AssertionError here."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _child(work, write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as report:
        text = report.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status or text:
        raise AssertionError(text or f"the process ended with status {status}")


def _enter(mapping: IdMapping) -> None:
    from img_core.linux import userns

    if mapping != "root":
        os.environ["IMG_IDMAP"] = mapping
    mode = userns.enter().mode
    assert mode == mapping, f"this host gives {mode}, not {mapping}"


def _child(work: Callable[[], None], report: int) -> None:
    """Never return: the forked copy must not run the rest of the test session."""
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        os.write(report, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(status)
