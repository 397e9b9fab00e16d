"""What was tried on this host and worked is not tried again: a trial mount costs a cached build more than all of its steps.

The note counts only for what surrounded the trial: this boot and kernel, this disk, and the confinement of this process (containers and
sandboxes take rights away while the machine stays the same). What did not work is tried each time, for somebody may have mended it.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress

from img_core.files import fs
from img_core.linux.boot import boot_id
from img_core.spec.errors import ImgError

__all__ = ["Trial"]

#: Lines of ``/proc/self/status`` that tell what the kernel lets us do; see proc(5).
_CONFINEMENT = ("CapBnd:", "NoNewPrivs:", "Seccomp:", "Seccomp_filters:")


class Trial:
    """The trial *name*, made in the directory *state*; its note is the file ``worked-…`` in there, which may vanish at any time."""

    def __init__(self, state: str, name: str) -> None:
        self._surroundings = _surroundings(state)
        self._path = os.path.join(state, f"worked-{name.replace(' ', '-')}")

    def worked_before(self) -> bool:
        """Tell whether it worked in these surroundings."""
        try:
            with open(self._path, encoding="ascii") as file:
                return bool(self._surroundings) and file.read(100) == self._surroundings
        except (OSError, ValueError):
            return False

    def worked(self) -> None:
        """Note that it works; a full disk costs time only."""
        if self._surroundings:
            with suppress(OSError, ImgError):
                fs.replace_file(self._path, self._surroundings.encode())


def _surroundings(state: str) -> str:
    """Return a digest of what decides whether a trial works, empty if that cannot be told."""
    boot = boot_id()
    if boot is None:
        return ""
    try:
        with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
            confinement = [line for line in file if line.startswith(_CONFINEMENT)]
        with suppress(OSError), open("/proc/self/attr/current", encoding="utf-8", errors="replace") as file:
            confinement.append(file.read())  # the profile of AppArmor, the label of SELinux
        where = (os.stat(state).st_dev, os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""
    return hashlib.sha256(repr((boot, os.uname().release, where, confinement)).encode()).hexdigest()
