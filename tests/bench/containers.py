"""From the start of a container to its end: one `true`, by every executor, with nothing of a build around it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from measure import Figure, alternate

from img_core.testing.executor_lab import Laboratory

__all__ = ["container_start"]

_USERNS = "img_executor_userns._executor:UsernsExecutor"
_RUNTIME = "img_executor_runc._executor:RuncExecutor"
#: name -> class, options, and the most milliseconds it may take on a quiet machine
_EXECUTORS: dict[str, tuple[str, dict[str, str], float | None]] = {
    "userns": (_USERNS, {}, 10),
    "runc": (_RUNTIME, {"runtime": "runc"}, 30),
    "crun": (_RUNTIME, {"runtime": "crun"}, None),
}
_PATH = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin"


def container_start(rounds: int) -> None:
    """Measure in alternation; the time is taken beside the executor, around `Executor.run`."""
    laboratories: dict[str, Laboratory] = {}
    try:
        for name, (executor, options, _) in _EXECUTORS.items():
            if name == "userns" or shutil.which(name, path=_PATH):
                laboratories[name] = Laboratory(executor, "full", options)
        candidates: dict[str, Callable[[], float]] = {}
        for name, laboratory in laboratories.items():
            candidates[name] = lambda used=laboratory: used.run("true").seconds  # type: ignore[misc]  # of no other type
        for candidate in candidates.values():
            candidate()  # imports, and the kernel's caches
        figures = alternate(rounds * 10, candidates)
    finally:
        for laboratory in laboratories.values():
            laboratory.close()
    _show(figures)


def _show(figures: list[Figure]) -> None:
    print("\n| `true` in a container, start to exit | best, ms | median, ms | budget, ms |\n|---|---|---|---|")
    for figure in figures:
        budget = _EXECUTORS[figure.name][2]
        print(f"| {figure.name} | {figure.low * 1000:.1f} | {figure.middle * 1000:.1f} | {budget or ''} |")
