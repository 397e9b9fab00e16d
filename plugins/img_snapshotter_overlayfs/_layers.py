"""Mounting stacks of layer directories."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from img_core.files import fs
from img_core.linux import mounts
from img_core.spec.errors import HostError, ImgError
from img_lib_layers.overlay.layout import WORK
from img_lib_layers.snapshots import FILES

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["mount_layers"]

# The kernel takes 500; some of them are ours.
_MOST_LAYERS: Final = 480

# `userxattr`: marks that an unprivileged mounter may write, also used as real root so that a store has one form.
# `index=off`: with it the kernel refuses layers that were copied to another disk.
_OPTIONS: Final = (("userxattr", ""), ("index", "off"))


def mount_layers(lowers: Sequence[str], *, snapshot: str = "", staging: str = "") -> int:
    """Merge the directories *lowers* (topmost first), below the files of *snapshot* if that is given; return a detached mount.

    Raises `HostError` with the kernel's reason.
    """
    with ExitStack() as stack:
        short = _Names(stack)
        names = [short.of(path) for path in lowers]
        if len(names) > _MOST_LAYERS:
            names = [*names[: _MOST_LAYERS - 1], _merge_lowest(names[_MOST_LAYERS - 1 :], stack, staging)]
        try:
            if not snapshot:
                return mounts.overlay(names, options=_OPTIONS, staging=staging)
            base = short.of(snapshot)
            # `volatile` leaves out a sync of the whole disk at unmount; what must survive is synced before it is published.
            options = (*_OPTIONS, ("volatile", ""))
            return mounts.overlay(
                names, upper=f"{base}/{FILES}", work=f"{base}/{WORK}", options=options, staging=staging
            )
        except OSError as err:
            reason = short.spelled_out(err.strerror or str(err))
            raise HostError(f"cannot mount an overlay of {len(lowers)} layers: {reason}") from err


def _merge_lowest(names: Sequence[str], stack: ExitStack, staging: str) -> str:
    """Merge the lowest layers in a mount of their own, since the kernel takes 500 in one; only the bottom may be such a mount."""
    if len(names) > _MOST_LAYERS:
        raise ImgError(
            f"too many layers: {len(names) + _MOST_LAYERS - 1}",
            hint=f"overlayfs can stack {2 * _MOST_LAYERS - 1}; use `--backend native` or squash the base image",
        )
    fd = mounts.overlay(names, options=_OPTIONS, staging=staging)
    stack.callback(os.close, fd)
    return f"/proc/self/fd/{fd}"


class _Names:
    """Gives directories names that begin with a descriptor of their parent.

    They are short (an option has 255 bytes), hold none of the characters that overlayfs treats specially, and do not show the
    container, in its mountinfo, where our state lies.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._parents: dict[str, int] = {}

    def of(self, path: str) -> str:
        head, base = self._split(path)
        fd = self._parents.get(head)
        if fd is None:
            fd = self._parents[head] = os.open(head, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self._stack.callback(os.close, fd)
        return f"/proc/self/fd/{fd}/{base}" if base else f"/proc/self/fd/{fd}"

    def spelled_out(self, text: str) -> str:
        """Return *text* with the real paths instead of our names for them."""
        for path, fd in self._parents.items():
            text = text.replace(f"/proc/self/fd/{fd}/", f"{fs.show(path)}/")
        return text

    @staticmethod
    def _split(path: str) -> tuple[str, str]:
        # Snapshots are siblings: one descriptor for all of them, not one each.
        head, _, base = path.rpartition("/")
        if base == FILES:
            head, _, base = head.rpartition("/")
            base = f"{base}/{FILES}"
        return (head, base) if "\\" not in base and len(os.fsencode(base)) < 200 else (path, "")
