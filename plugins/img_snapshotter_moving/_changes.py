"""What a step changed in a tree that it got from the step before: told from the index of that, and, rarely, from the layers below."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from img_lib_layers.changes import TreeChanges
from img_snapshotter_moving import _kept
from img_snapshotter_moving._index import Facts, Look, TreeIndex, digest_of_file, parse, with_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["MovedChanges", "find_equal"]

Entries = dict[bytes, bytes]


class MovedChanges(TreeChanges["Entries | None"]):
    """Gives what in *found* is not as *before*; *equal* are paths of files that were touched and are the same again.

    The state of a directory is what it held before; None where it did not exist.
    """

    def __init__(
        self,
        root_fd: int,
        records: str,
        before: TreeIndex,
        found: Look,
        equal: set[bytes],
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(root_fd, records)
        self._before = before
        self._found = found
        self._equal = equal
        self._on_close = on_close

    def close(self) -> None:
        """Release the tree."""
        if self.root_fd >= 0:
            super().close()
            self._on_close()

    def _root_state(self) -> Entries | None:
        return self._before.directories.get(b"")

    def _entries(self, path: bytes, state: Entries | None) -> Iterable[tuple[bytes, os.stat_result | None]]:
        here, stats = self._found.index.directories[path], self._found.stats
        prefix = path + b"/" if path else b""
        listed: list[tuple[bytes, os.stat_result | None]] = [
            (name, info) for name in here if (info := stats.get(prefix + name)) is not None
        ]
        gone = [(name, None) for name in state if name not in here] if state else []
        if not gone:
            return listed
        return sorted([*listed, *gone], key=_name)

    def _judge(self, path: bytes, info: os.stat_result, state: Entries | None) -> tuple[bool, Entries | None]:
        head, _, name = path.rpartition(b"/")
        old = state.get(name) if state is not None else None
        if old is None:
            return True, None
        directory = stat.S_ISDIR(info.st_mode)
        below = self._before.directories.get(path) if directory else None
        new = self._found.index.directories[head][name]
        if new == old:
            return False, below
        if not directory:
            return path not in self._equal, None
        was, now = parse(old), parse(new)
        if not stat.S_ISDIR(was.mode):
            return True, None
        return not was.alike(now), below


def _name(entry: tuple[bytes, object]) -> bytes:
    return entry[0]


def find_equal(root_fd: int, before: TreeIndex, found: Look, layers: Sequence[str]) -> set[bytes]:
    """Return the paths of entries that were touched and are what they were: renamed there and back, or given the mode that they had.

    What a file held before is read from the topmost of the kept *layers* (lowest first) that has it, if nothing else tells. Its digest is
    noted in the index of *found*, so that this is done once. A file that shares its inode with something changed, or with what was
    another file, counts as changed: the layer has to say that they are one.
    """
    equal: set[bytes] = set()
    unknown: dict[bytes, Facts] = {}
    changed: set[int] = set()
    shared: dict[bytes, int] = {}
    former: dict[int, int] = {}
    for path, info in found.stats.items():
        if stat.S_ISDIR(info.st_mode):
            continue
        head, _, name = path.rpartition(b"/")
        old = before.directories.get(head, {}).get(name)
        was = parse(old) if old is not None else None
        now = parse(found.index.directories[head][name])
        if info.st_nlink > 1:
            shared[path] = info.st_ino
        if was is None or not was.alike(now) or former.setdefault(info.st_ino, was.inode) != was.inode:
            changed.add(info.st_ino)
        elif not stat.S_ISREG(info.st_mode) or not info.st_size:
            equal.add(path)
        else:
            unknown[path] = was
    for path in _same_content(root_fd, unknown, found, before, layers):
        equal.add(path)
        unknown.pop(path)
    changed.update(found.stats[path].st_ino for path in unknown)
    return {path for path in equal if shared.get(path) not in changed}


def _same_content(
    root_fd: int, unknown: dict[bytes, Facts], found: Look, before: TreeIndex, layers: Sequence[str]
) -> list[bytes]:
    """Return those of *unknown* that hold what they held."""
    same: list[bytes] = []
    digests: dict[bytes, bytes] = {}
    for path, was in unknown.items():
        digests[path] = digest_of_file(root_fd, path)
        if was.digest and was.digest == digests[path]:
            same.append(path)
    rest = {path: was.size for path, was in unknown.items() if not was.digest}
    for layer in reversed(layers):
        if not rest:
            break
        held, names = _kept.contents(layer, set(rest.values()))
        unsure = _through_links(names, before)
        for path in list(rest):
            if path.rpartition(b"/")[2] in unsure:
                del rest[path]
            elif path in names:
                del rest[path]
                if held.get(path) == digests[path]:
                    same.append(path)
    for path in same:
        head, _, name = path.rpartition(b"/")
        entries = found.index.directories[head]
        entries[name] = with_digest(entries[name], digests[path])
    return same


def _through_links(names: set[bytes], before: TreeIndex) -> set[bytes]:
    """Return the last parts of *names* that lie in no directory of the tree: perhaps they came to it through a link."""
    return {name.rpartition(b"/")[2] for name in names if name.rpartition(b"/")[0] not in before.directories}
