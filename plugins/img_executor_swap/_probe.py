"""Whether a step may take the place of the root directory here: img must not go away with it, and names must be movable."""

from __future__ import annotations

import errno
import os
import sys
from typing import Final

from img_core.files import fs
from img_executor_swap._place import ANCHOR, HOME, SYSTEM, is_ours

__all__ = ["is_below", "reason_against"]

_HOME: Final = f"/{HOME}/"
_SYSTEM: Final = tuple(f"/{name}/" for name in sorted(SYSTEM))
_PROBE: Final = ".img-probe-"


def is_below() -> bool:
    """Tell whether names can be moved only in directories of the root directory, not in itself."""
    return not os.access("/", os.W_OK) and is_ours(f"/{ANCHOR}")


def reason_against(state: str, scratch: str) -> str:
    """Return why `swap` cannot work, or an empty string. *state* is the state directory, *scratch* a directory in it that is ours."""
    if outside := _outside(os.path.realpath(state)):
        return f"needs an image of img that lives in `/{HOME}` alone (contrib/container): here it uses `{fs.show(outside)}`"
    if not f"{os.path.realpath(state)}/".startswith(_HOME):
        return f"needs a state directory below `/{HOME}`, which stays in place: `{fs.show(state)}` does not"
    name = os.urandom(8).hex()
    place = f"/{ANCHOR}" if is_below() else "/"
    source, target = os.path.join(scratch, name), os.path.join(place, _PROBE + name)
    try:
        fs.mkdir(source, 0o700)
        fs.rename(source, target)
        fs.rename(target, source)
        fs.rmdir(source)
    except OSError as err:
        if err.errno == errno.EXDEV:
            return f"needs a state directory in the container's own layer, not in a volume: `{fs.show(state)}`"
        return f"cannot move names in `{place}`: {os.strerror(err.errno or 0).lower()}"
    return ""


def _outside(state: str) -> str:
    """Return a file of this program that is not below its home, or an empty string; files of the *state* directory are none."""
    paths = [os.__file__, __file__, *(path for path in sys.path if os.path.isabs(path) and os.path.exists(path))]
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        mapped = (line.split(None, 5)[5].rstrip("\n") for line in maps if "/" in line)
        paths += [
            path for path in mapped if path.startswith("/") and not path.startswith(_SYSTEM) and os.path.exists(path)
        ]
    return next((path for path in paths if not os.path.realpath(path).startswith((_HOME, f"{state}/"))), "")
