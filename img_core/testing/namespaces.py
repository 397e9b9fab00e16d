"""Run a part of a test in a process of its own, also inside of the user namespace, which the test process itself must not enter."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from img_core.testing.processes import run_forked

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


def _enter(mapping: IdMapping) -> None:
    from img_core.linux import userns

    if mapping != "root":
        os.environ["IMG_IDMAP"] = mapping
    mode = userns.enter().mode
    assert mode == mapping, f"this host gives {mode}, not {mapping}"
