"""The moving snapshotter.

A snapshot is a directory with

* ``fs``, the tree, as long as no other snapshot has taken it,
* ``before``, the index of the tree without the snapshot's own changes: the step begins with it,
* ``layer`` and ``layer.json``, what it changes; ``after``, the index with that; both from when it is first asked for or loses its tree,
* ``owners``, records of its own step, if there are any.

A snapshot on others gets the tree of the nearest one below that has it and that nobody reads, and what the layers between change is done
to it again; if nobody has a tree, it is made of layers alone. A snapshot gives its tree away only when it has its layer, so a process that
ends at any moment leaves all of them whole, or ready to be made again.

Whoever changes what is in the directory of a finished snapshot holds a flock(2) on it; whoever reads a tree a shared one on ``fs``, which
nobody takes meanwhile. Both end with their process. Locks are taken from the top of a stack downwards.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Final

from img_core.files import fs
from img_core.spec.errors import Unsupported
from img_lib_layers.changes import disk_usage, read_records
from img_lib_layers.snapshots import FILES, RECORDS, DirectoryRoot, DirectorySnapshotter, open_directory, read_only
from img_lib_layers.times import shows_memory_writes
from img_snapshotter_moving import _kept
from img_snapshotter_moving._changes import MovedChanges, find_equal
from img_snapshotter_moving._index import Look, TreeIndex, look, read_index, settle, write_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from img_core.spec.host import Host
    from img_core.spec.snapshotter import Applied, Changes, LayerStream, Rootfs

__all__ = ["MovingSnapshotter"]

_BEFORE: Final = "before"
_AFTER: Final = "after"
_AGAIN: Final = "again"  # in which a tree is made that was taken


class MovingSnapshotter(DirectorySnapshotter):
    """Snapshots that hand one tree on."""

    name: ClassVar[str] = "moving"
    independent_layers: ClassVar[bool] = False

    @classmethod
    def probe(cls, host: Host) -> None:
        """Need a file system that locks directories and notices every change of a file, also one through memory."""
        if host.mapping == "single":
            raise Unsupported(
                "`moving` has no tree of the step before, which the records of owners are made from; `native` does"
            )
        directory = os.path.join(host.run_directory, f"moving-{os.urandom(4).hex()}")
        fs.mkdir(directory, 0o700)
        try:
            with _locked(directory):
                seen = shows_memory_writes(directory)
        except OSError as err:
            raise Unsupported(f"`moving` does not work here: {os.strerror(err.errno or 0).lower()}") from err
        finally:
            fs.remove_tree(directory)
        if not seen:
            raise Unsupported("`moving` has to see every change; on this file system those through memory show nowhere")

    # ------------------------------------------------------------------------------------------------------- contract

    def prepare(self, directory: str, parents: Sequence[str], *, mount_points: bool = False) -> Rootfs:
        """Take the tree of the nearest of *parents*. Mount points are left to the executor, which makes and removes what is missing."""
        self._build(directory, parents, range(len(parents), 0, -1))
        return DirectoryRoot(open_directory(f"{directory}/{FILES}"))

    def view(self, parents: Sequence[str]) -> Rootfs:
        """Open the tree of the topmost parent, which is made again if it was taken; read-only where mounts are possible."""
        if not parents:
            return DirectoryRoot(read_only(self._empty_directory()))
        with _locked(parents[-1]):
            if not _has_tree(parents[-1]):
                self._make_again(parents)
            tree = open_directory(f"{parents[-1]}/{FILES}")
            fcntl.flock(tree, fcntl.LOCK_SH)
        return DirectoryRoot(read_only(f"{parents[-1]}/{FILES}"), tree)

    def apply(self, directory: str, parents: Sequence[str], layer: LayerStream) -> Applied:
        """Take the tree of the nearest of *parents* and unpack *layer* over it, deletions included."""
        self._build(directory, parents, range(len(parents), 0, -1))
        with _kept.keep_arriving(directory, layer) as kept:
            applied = self._unpack(directory, kept.stream, "layer-apply")[0]
            kept.finish(applied.diff_id)
        return applied

    def changes(self, directory: str, parents: Sequence[str]) -> Changes:
        """Compare with the index from before the step, in a tree of its own if the snapshot has none that the index is about."""
        with _locked(directory):
            if _has_tree(directory) and os.path.exists(f"{directory}/{_BEFORE}"):
                tree = open_directory(f"{directory}/{FILES}")
                fcntl.flock(tree, fcntl.LOCK_SH)
                return self._changes(tree, directory, directory, parents)
        work = os.path.join(self.host.run_directory, f"moving-{os.urandom(8).hex()}")
        try:
            self._build(work, parents, ())
            tree = open_directory(f"{work}/{FILES}")
            self._extract(tree, _kept.KeptLayer.of(directory).stream(directory), "layer-apply")
            _restore_looks(tree, read_index(f"{directory}/{_AFTER}"))
            return self._changes(tree, work, directory, parents, lambda: fs.remove_tree(work))
        except BaseException:
            if os.path.lexists(work):
                fs.remove_tree(work)
            raise

    def packed(self, directory: str, parents: Sequence[str]) -> LayerStream | None:
        """Return the kept layer, which is made when somebody asks first."""
        with _locked(directory):
            self._seal(directory, parents)
        return _kept.KeptLayer.of(directory).stream(directory)

    def owners(self, parents: Sequence[str]) -> Mapping[bytes, tuple[int, int]]:
        """Merge the records of all *parents*; what each touched is told by its layer."""
        if parents:
            with _locked(parents[-1]):
                self._seal(parents[-1], parents[:-1])
        return super().owners(parents)

    def usage(self, directory: str) -> int:
        """Return the disk usage, but not that of a layer which is a blob of the store as well."""
        total = disk_usage(directory)
        try:
            layer = os.stat(f"{directory}/layer")
        except FileNotFoundError:
            return total
        return total - layer.st_blocks * 512 if layer.st_nlink > 1 else total

    def _superseded(self, parent: str) -> Callable[[bytes], bool]:
        touched: list[_kept.Touched] = []

        def test(path: bytes) -> bool:
            if not touched:
                touched.append(_kept.touched_by(parent))
            return path in touched[0]

        return test

    # ---------------------------------------------------------------------------------------------------------- trees

    def _build(self, directory: str, stack: Sequence[str], givers: Sequence[int]) -> None:
        """Make *directory* with the tree of *stack* and the index of that.

        *givers* are how many layers the trees hold that may be taken for it.
        """
        fs.mkdir(directory, 0o700)
        given = next((count for count in givers if self._take(directory, stack[:count])), 0)
        if given and given == len(stack):
            return
        if not given:
            outer = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fs.mkdir(FILES.encode(), 0o755, dir_fd=outer)
            finally:
                os.close(outer)
        index = TreeIndex()
        if stack:
            tree = open_directory(f"{directory}/{FILES}")
            try:
                for layer in stack[given:]:
                    self._extract(tree, _kept.KeptLayer.of(layer).stream(layer), "layer-apply")
                _restore_looks(tree, read_index(f"{stack[-1]}/{_AFTER}"))
                index = settle(tree, directory, look(tree, TreeIndex())).index
            finally:
                os.close(tree)
        write_index(f"{directory}/{_BEFORE}", index)

    def _take(self, directory: str, stack: Sequence[str]) -> bool:
        """Move the tree of the topmost of *stack* to *directory*, with its index; tell whether that could be done."""
        top = stack[-1]
        with _locked(top):
            if not _has_tree(top):
                return False
            self._seal(top, stack[:-1])
            tree = open_directory(f"{top}/{FILES}")
            try:
                fcntl.flock(tree, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fs.link(f"{top}/{_AFTER}", f"{directory}/{_BEFORE}")
                fs.rename(f"{top}/{FILES}", f"{directory}/{FILES}")
            except BlockingIOError:
                return False
            except OSError as err:
                if err.errno != errno.EXDEV:  # a directory of a lower layer of an overlay
                    raise
                fs.unlink(f"{directory}/{_BEFORE}")
                return False
            finally:
                os.close(tree)
        return True

    def _make_again(self, stack: Sequence[str]) -> None:
        """Give the topmost of *stack* a tree again."""
        top = stack[-1]
        again = f"{top}/{_AGAIN}"
        if os.path.lexists(again):  # somebody was killed here
            fs.remove_tree(again)
        self._build(again, stack, range(len(stack) - 1, 0, -1))
        if os.path.exists(f"{top}/{_BEFORE}"):
            fs.unlink(f"{top}/{_BEFORE}")  # is about another tree
        fs.rename(f"{again}/{_BEFORE}", f"{top}/{_AFTER}")
        fs.rename(f"{again}/{FILES}", f"{top}/{FILES}")
        fs.remove_tree(again)

    def _seal(self, directory: str, parents: Sequence[str]) -> None:
        """See to it that *directory*, whose lock is held, has its layer and the index with that."""
        if os.path.exists(f"{directory}/{_AFTER}"):
            return
        tree = open_directory(f"{directory}/{FILES}")
        try:
            before = read_index(f"{directory}/{_BEFORE}")
            found = settle(tree, directory, look(tree, before))
            if not _kept.is_kept(directory):
                equal = _equal(tree, directory, before, found, parents)
                changes = MovedChanges(os.dup(tree), f"{directory}/{RECORDS}", before, found, equal)
                try:
                    _kept.keep_changes(directory, changes, tree, lambda path, _info: changes.owner(path))
                finally:
                    changes.close()
        finally:
            os.close(tree)
        write_index(f"{directory}/{_AFTER}", found.index)

    def _changes(
        self,
        tree: int,
        place: str,
        directory: str,
        parents: Sequence[str],
        on_close: Callable[[], None] = lambda: None,
    ) -> MovedChanges:
        """Return the changes of *directory*, whose *tree* lies in *place* together with the index from before them."""
        try:
            before = read_index(f"{place}/{_BEFORE}")
            found = look(tree, before)
            equal = _equal(tree, directory, before, found, parents)
        except BaseException:
            os.close(tree)
            raise
        return MovedChanges(tree, f"{directory}/{RECORDS}", before, found, equal, on_close)


def _equal(tree: int, directory: str, before: TreeIndex, found: Look, parents: Sequence[str]) -> set[bytes]:
    """Return what `find_equal` does, without what got an owner of which only the records of *directory* tell."""
    equal = find_equal(tree, before, found, parents)
    return equal - read_records(f"{directory}/{RECORDS}").keys() if equal else equal


def _has_tree(directory: str) -> bool:
    return os.path.isdir(f"{directory}/{FILES}")


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    fd = open_directory(directory)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _restore_looks(tree: int, index: TreeIndex) -> None:
    """Give entries the times that they had, which a layer holds in seconds only, and the root also mode and owner."""
    for path, facts in index.facts():
        try:
            now = os.stat(path or b".", dir_fd=tree, follow_symlinks=False)
        except FileNotFoundError:  # a socket
            continue
        if not path:
            os.fchown(tree, facts.uid, facts.gid)
            os.fchmod(tree, stat.S_IMODE(facts.mode))
        if now.st_mtime_ns != facts.modified:
            os.utime(path or b".", ns=(now.st_atime_ns, facts.modified), dir_fd=tree, follow_symlinks=False)
