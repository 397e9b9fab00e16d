"""Keeps the cache within a budget: after builds that added to it, what was used longest ago goes.

The cache is what no image and no running command needs, and images that lost their name to another one. Most builds only look at the
time of a file: the sizes are added up at most every ten minutes. Measuring and removing stop when their time is over, and the next build
goes on; what this command itself used is spared, like all that others use.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.forms.words import budget_bytes

if TYPE_CHECKING:
    from img_core.store.store import Store

__all__ = ["collect_excess"]

_LEAST_SHARE = (
    2 << 30
)  #: bytes; a tenth of a small disk would not hold two projects, which would take turns in being built anew
_EVERY = 600.0  #: seconds between two looks
_LEFT = 0.9  #: of the budget, so that not each build has something to remove
_BITE = 256 << 20  #: bytes that are removed between two looks at the clock
_STAMP = "collected"


def collect_excess(store: Store, budget: str, *, seconds: float) -> int:
    """Remove what exceeds *budget* (see `spec.sizes`), for about *seconds*; return how many bytes that were. Needs our user namespace."""
    stamp = os.path.join(store.state, _STAMP)
    disk = os.statvfs(store.state)
    limit = budget_bytes(budget, disk.f_blocks * disk.f_frsize)
    if limit is None or not _is_due(stamp):
        return 0
    from img_core.store.collect import Policy, prune  # most builds have nothing to remove

    if budget.endswith("%"):
        limit = max(limit, _LEAST_SHARE)
    deadline = time.monotonic() + seconds
    fs.replace_file(stamp, b"")  # first: others that end now need not look as well
    total = 0
    policy = partial(
        Policy,
        images=lambda image: image.replaced,  # nobody asked to keep it, and it can be built again
        bite_bytes=_BITE,
        spare_own=True,
    )
    while removed := prune(store, policy(unused_bytes=int(limit * _LEFT) if total else limit), measure_until=deadline):
        total += sum(piece.size for piece in removed)
        if time.monotonic() > deadline:
            with suppress(FileNotFoundError):
                fs.unlink(stamp)  # the next build goes on
            break
    return total


def _is_due(stamp: str) -> bool:
    try:
        age = time.time() - os.stat(stamp).st_mtime
    except FileNotFoundError:
        return True
    return not 0 <= age < _EVERY
