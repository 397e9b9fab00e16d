"""The layers, read: what is where, and what hides what.

The format is that of overlayfs with the option ``userxattr``: a character device 0:0 (a whiteout) hides what is below, and so does a
directory with the attribute ``user.overlay.opaque``; see the kernel's Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from img_snapshotter_fuse._node import Found, Node

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["OPAQUE", "ORIGIN", "OVERLAY_XATTRS", "Stack", "is_whiteout"]

OPAQUE: Final = "user.overlay.opaque"
ORIGIN: Final = "user.overlay.origin"
OVERLAY_XATTRS: Final = ("user.overlay.", "trusted.overlay.")

_LONGEST: Final = 3800  # bytes of a path in one system call, with room for a name
_MOST_SHORTCUTS: Final = 64


class Stack:
    """The root directories of all layers, topmost first."""

    def __init__(self, directories: Sequence[str]) -> None:
        self._roots = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in directories]
        self._prefixes = [b"/proc/self/fd/%d/" % fd for fd in self._roots]
        self._shortcuts: dict[tuple[int, bytes], int] = {}

    def __len__(self) -> int:
        return len(self._roots)

    def place(self, layer: int, path: bytes) -> bytes:
        """Return a name for *path* in *layer* that every system call takes.

        It is valid until the next `forget_shortcuts`, and as long as an operation asks for some twenty others at most.
        """
        if len(path) < _LONGEST:
            return self._prefixes[layer] + path
        cut = path.rindex(b"/", 0, _LONGEST)
        return self._deep(layer, path[:cut], path[cut + 1 :])

    def _deep(self, layer: int, head: bytes, rest: bytes) -> bytes:
        """Open the directory *head* and go on from there."""
        fd = self._shortcut(layer, head, self._prefixes[layer] + head)
        while len(rest) >= _LONGEST:
            cut = rest.rindex(b"/", 0, _LONGEST)
            head = head + b"/" + rest[:cut]
            fd = self._shortcut(layer, head, b"/proc/self/fd/%d/" % fd + rest[:cut])
            rest = rest[cut + 1 :]
        return b"/proc/self/fd/%d/" % fd + rest

    def _shortcut(self, layer: int, head: bytes, name: bytes) -> int:
        fd = self._shortcuts.pop((layer, head), -1)
        if fd < 0:
            fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            if len(self._shortcuts) >= _MOST_SHORTCUTS:
                # The one whose last use is longest ago: others are in names that an operation is going to use.
                os.close(self._shortcuts.pop(next(iter(self._shortcuts))))
        self._shortcuts[layer, head] = fd
        return fd

    def forget_shortcuts(self) -> None:
        """Directories have moved: names of deep ones have to be found again, those that `place` returned among them."""
        while self._shortcuts:
            os.close(self._shortcuts.popitem()[1])

    def file(self, node: Node) -> bytes:
        """Return the name of a node's file where it is now."""
        if node.fd >= 0:
            return b"/proc/self/fd/%d" % node.fd
        return self.place(node.layer, node.path())

    def stat(self, node: Node) -> os.stat_result:
        """Return the attributes of a node, not following it."""
        return os.stat(self.file(node), follow_symlinks=node.fd >= 0)

    def readlink(self, node: Node) -> bytes:
        """Return the target of a symbolic link."""
        return os.readlink(b"", dir_fd=node.fd) if node.fd >= 0 else os.readlink(self.file(node))

    def find(self, parent: Node, name: bytes) -> Found | None:
        """Return what the merged directory *parent* has as *name*."""
        base = parent.path()
        path = base + b"/" + name if base else name
        last = parent.layers[-1]
        top: os.stat_result | None = None
        layers: list[int] = []
        for layer in parent.layers:
            place = self.place(layer, path)
            try:
                info = os.stat(place, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(info.st_mode):
                if top is None and not is_whiteout(info):
                    return Found(layer, info, ())
                break
            top = top or info
            layers.append(layer)
            if layer != last and is_opaque(place):
                break
        return None if top is None else Found(layers[0], top, tuple(layers))

    def lower_has(self, parent: Node, name: bytes) -> bool:
        """Tell whether *name* would show in the writable directory *parent* if the upper layer had nothing there."""
        base = parent.path()
        path = base + b"/" + name if base else name
        for layer in parent.layers:
            if layer:
                try:
                    return not is_whiteout(os.stat(self.place(layer, path), follow_symlinks=False))
                except FileNotFoundError:
                    continue
        return False

    def listing(self, directory: Node) -> list[tuple[bytes, Found]]:
        """Return all entries of a merged directory."""
        if len(directory.layers) == 1:
            return self._single(directory.path(), directory.layers[0])
        return self._merged(directory.path(), directory.layers)

    def is_empty(self, path: bytes, layers: tuple[int, ...]) -> bool:
        """Tell whether the directory *path*, merged from *layers*, has no entries."""
        return not (self._single(path, layers[0]) if len(layers) == 1 else self._merged(path, layers))

    def _single(self, path: bytes, layer: int) -> list[tuple[bytes, Found]]:
        below = (layer,)
        found = []
        with os.scandir(self.place(layer, path)) as entries:
            for entry in entries:
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    found.append((entry.name, Found(layer, info, below)))
                elif not is_whiteout(info):
                    found.append((entry.name, Found(layer, info, ())))
        return found

    def _merged(self, path: bytes, layers: tuple[int, ...]) -> list[tuple[bytes, Found]]:
        entries: dict[bytes, Found | None] = {}
        merging: dict[bytes, list[int]] = {}  # directories into which lower ones still show
        for layer in layers:
            with os.scandir(self.place(layer, path)) as listed:
                for entry in listed:
                    name = entry.name
                    if name not in entries:
                        info = entry.stat(follow_symlinks=False)
                        entries[name] = None if is_whiteout(info) else Found(layer, info, ())
                        if stat.S_ISDIR(info.st_mode):
                            merging[name] = []
                    elif name not in merging:
                        continue
                    elif not entry.is_dir(follow_symlinks=False):
                        self._settle(entries, name, merging)
                        continue
                    if name in merging:
                        merging[name].append(layer)
                        if layer != layers[-1] and is_opaque(self.place(layer, path + b"/" + name if path else name)):
                            self._settle(entries, name, merging)
        for name in list(merging):
            self._settle(entries, name, merging)
        return [(name, found) for name, found in entries.items() if found is not None]

    @staticmethod
    def _settle(entries: dict[bytes, Found | None], name: bytes, merging: dict[bytes, list[int]]) -> None:
        found = entries[name]
        assert found is not None
        entries[name] = found._replace(layers=tuple(merging.pop(name)))


def is_whiteout(info: os.stat_result) -> bool:
    """Tell whether this hides what lower layers have."""
    return info.st_rdev == 0 and stat.S_ISCHR(info.st_mode)


def is_opaque(place: bytes) -> bool:
    """Tell whether the directory *place* hides the content of lower ones."""
    try:
        return os.getxattr(place, OPAQUE) == b"y"
    except OSError:
        return False
