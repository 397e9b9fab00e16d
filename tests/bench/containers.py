"""From the start of a container to its end: one `true`, by every executor, with nothing of a build around it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from measure import alternate
from report import Report

from img_core.testing.executor_lab import Laboratory

__all__ = ["container_start"]

_USERNS = "img_executor_userns._executor:UsernsExecutor"
_RUNTIME = "img_executor_runc._executor:RuncExecutor"
#: name -> class and options; on a quiet machine `userns` may take 10 ms and `runc` 30
_EXECUTORS: dict[str, tuple[str, dict[str, str]]] = {
    "userns": (_USERNS, {}),
    "runc": (_RUNTIME, {"runtime": "runc"}),
    "crun": (_RUNTIME, {"runtime": "crun"}),
}
_PATH = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin"


def container_start(rounds: int, report: Report) -> None:
    """Measure in alternation; the time is taken beside the executor, around `Executor.run`."""
    laboratories: dict[str, Laboratory] = {}
    try:
        for name, (executor, options) in _EXECUTORS.items():
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
    report.add("`true` in a container, start to exit, by executor", figures)
