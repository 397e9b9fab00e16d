"""Which boot of the machine this is, in one word that all processes with the same state directory agree on.

Rows that were not synced, and leases, mean something until the next boot only, so they carry its name. That is the kernel's boot id where
``/proc`` shows it. Where it does not, the name is what a living process on this state directory calls the boot (it began in this one),
else what the last one called it if the clocks tell that the machine was not started again meanwhile, else a new word.
"""

from __future__ import annotations

import os
import time

from img_core.files import fs
from img_core.files.locks import boot_of, live_runs
from img_core.linux.boot import boot_id

__all__ = ["name_of_boot"]

_FILE = "boot"  #: what the last process without a boot id called its boot, and what the clocks said
_LIMIT = 1024
_TOLERANCE = (
    2.0  #: seconds; only setting the clock moves the start of the machine, for what corrects one clock corrects both
)


def name_of_boot(state: str, *, note: bool = False) -> str:
    """Return the name of this boot for the state directory *state*.

    Who then makes a run directory does both under the lock ``boot``, with *note*, so that everybody who comes later uses the same name.
    """
    known = boot_id()
    name = _of_the_living(state) or known or _of_the_last(state) or os.urandom(8).hex()
    if note and known is None:
        fs.replace_file(os.path.join(state, _FILE), f"{name} {_started()} {_uptime()}".encode())
    return name


def _of_the_living(state: str) -> str:
    """Return what a living process calls this boot, empty if there is none."""
    return max((boot_of(run) for run in live_runs(state)), default="")


def _of_the_last(state: str) -> str | None:
    """Return what the last process without a boot id called its boot, if that was this one."""
    try:
        with open(os.path.join(state, _FILE), encoding="ascii") as file:
            name, started, uptime = file.read(_LIMIT).split()
            same = abs(_started() - float(started)) <= _TOLERANCE and _uptime() >= float(uptime)
    except (OSError, ValueError):
        return None
    return name if same else None


def _started() -> float:
    """Return when the machine was started, in seconds since 1970 UTC, by a clock that people may set."""
    return time.time() - _uptime()


def _uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
