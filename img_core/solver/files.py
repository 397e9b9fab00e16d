"""COPY, ADD and WORKDIR: opens what they read, digests it for the cache key, and lets `img_core.solver.copy` do the work."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.files.ignore import IgnoreMatcher
from img_core.files.ownership import Owners
from img_core.solver import copy
from img_core.solver.keys import digest_of
from img_core.solver.layers import EMPTY, Stack
from img_core.solver.result import open_tree
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import ImgError
from img_core.spec.graph import Copy, MakeDirectory, canonical_value
from img_core.spec.source import PinnedTree

if TYPE_CHECKING:
    from img_core.solver.cancellation import Cancellation
    from img_core.solver.events import Events
    from img_core.solver.layers import Layers
    from img_core.solver.steps import Evaluated, Place
    from img_core.spec.graph import FileOp, RunMount, RunOp
    from img_core.spec.host import Host
    from img_core.spec.snapshotter import Snapshotter
    from img_core.spec.source import TreeSource
    from img_core.store import Store

__all__ = ["FilePlan", "FileSteps"]


@dataclass(frozen=True, slots=True)
class FilePlan:
    """What one file operation will do: *contents* go into its key, *apply* does it."""

    contents: list[str]
    apply: Callable[[Place], None]


class FileSteps:
    """The file operations of one build."""

    def __init__(
        self,
        *,
        host: Host,
        store: Store,
        layers: Layers,
        snapshotter: Snapshotter,
        tree_source: Callable[[str], TreeSource],
        events: Events,
        cancellation: Cancellation,
    ) -> None:
        self.source_date_epoch: int | None = None  #: the time of what has none of its own, in seconds since 1970
        self._host = host
        self._store = store
        self._layers = layers
        self._snapshotter = snapshotter
        self._tree_source = tree_source
        self._events = events
        self._cancellation = cancellation
        self._fetched: dict[str, str] = {}
        self._fetching: dict[str, threading.Lock] = {}  # by tree: equal ones are fetched once
        self._fetching_guard = threading.Lock()

    def plan(self, op: FileOp, inputs: Sequence[Evaluated], step: str) -> FilePlan:
        """Plan *op*; reads what it would copy. *step* is the vertex that warnings belong to."""
        base = _stack_or_none(inputs[0]) if op.has_base else None
        copies = [action for action in op.actions if isinstance(action, Copy)]
        contents = [self.digest(_input(inputs, action), action, base) for action in copies]
        if any(isinstance(action, MakeDirectory) for action in op.actions):
            contents.append(str(self.source_date_epoch))

        def apply(place: Place) -> None:
            self._apply(op, inputs, place, step)
            self._check_unchanged(op, inputs, contents)

        return FilePlan(contents, apply)

    # ------------------------------------------------------------------------------------------------------- digest

    def digest(self, source: Evaluated, action: Copy, base: Stack | None = None, *, whole: bool = False) -> str:
        """Return a digest of what *action* would copy from *source*, to *base*; *whole* as in `copy.digest`.

        If nobody asked for that digest before, no step is recorded for it: *base* will be needed, and is unpacked meanwhile.
        """
        if isinstance(source, PinnedTree) and source.directory is not None:
            with self._open(source) as tree:
                return self._digest_tree(tree, action, whole=whole)
        # A finished stack, or a tree with an exact name, never changes: its digest is remembered, and a fully cached build opens no layer
        # and fetches nothing.
        files = digest_of("files", canonical_value(action), whole)
        known = self._store.records.tree_digest(source.identity, files)
        if known is None:
            if base is not None:
                self._layers.unpack_soon(base)
            with self._open(source) as tree:
                known = copy.digest(copy.select(tree, action), whole=whole, check=self._cancellation.check)
            self._store.records.set_tree_digest(source.identity, files, known)
        return known

    def mount_contents(self, op: RunOp, inputs: Sequence[Evaluated]) -> list[str]:
        """Return digests of what the mounts of a RUN bring from other inputs."""
        base = _stack_or_none(inputs[0]) if op.has_base else None
        return [self.mount_digest(mount, inputs, base) for mount in op.mounts if mount.input is not None]

    def mount_digest(self, mount: RunMount, inputs: Sequence[Evaluated], base: Stack | None = None) -> str:
        """Return a digest of what *mount* brings from its input; *base* as in `digest`."""
        assert mount.input is not None
        action = Copy(mount.input, (mount.source or "/",), "/")
        return self.digest(inputs[mount.input], action, base, whole=mount.type == "bind")

    def _digest_tree(self, tree: copy.SourceTree, action: Copy, *, whole: bool) -> str:
        root = os.fstat(tree.fd)
        hashes = self._store.records.file_digests(f"{root.st_dev}:{root.st_ino}")
        digest = copy.digest(copy.select(tree, action), hashes, whole=whole, check=self._cancellation.check)
        hashes.save()
        return digest

    # -------------------------------------------------------------------------------------------------------- apply

    def _apply(self, op: FileOp, inputs: Sequence[Evaluated], place: Place, step: str) -> None:
        with ExitStack() as opened:
            selections = [
                copy.select(opened.enter_context(self._open(_input(inputs, action))), action)
                if isinstance(action, Copy)
                else None
                for action in op.actions
            ]
            owners = Owners(self._host.mapping)
            now_ns = None if self.source_date_epoch is None else self.source_date_epoch * 10**9
            warnings = copy.apply(
                op.actions, selections, place.rootfs.fd, owners=owners, now_ns=now_ns, check=self._cancellation.check
            )
            for warning in warnings:
                self._events.status(step, f"warning: {warning}")
        if owners.recorded:
            self._snapshotter.record_owners(place.directory, owners.recorded)

    def _check_unchanged(self, op: FileOp, inputs: Sequence[Evaluated], contents: Sequence[str]) -> None:
        """Refuse a copy of files that are not those the key was made of: it would be found under the wrong key ever after."""
        copies = [action for action in op.actions if isinstance(action, Copy)]
        for action, planned in zip(copies, contents, strict=False):
            source = _input(inputs, action)
            if (
                isinstance(source, PinnedTree)
                and source.directory is not None
                and self.digest(source, action) != planned
            ):
                raise ImgError(
                    f"files of the build context changed while they were copied to `{fs.show(action.destination)}`",
                    hint="run the build again when nothing writes there",
                )

    # --------------------------------------------------------------------------------------------------------- open

    @contextmanager
    def _open(self, source: Evaluated) -> Iterator[copy.SourceTree]:
        """Open *source* for reading."""
        if isinstance(source, PinnedTree):
            descriptor = os.open(self._directory(source), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                text, name = source.ignore, source.ignore_name
                ignore = IgnoreMatcher.from_file(text, name) if text is not None else None
                yield copy.SourceTree(descriptor, ignore=ignore, ignore_name=name)
            finally:
                os.close(descriptor)
            return
        recorded = self._host.mapping == "single"
        with open_tree(self._layers, self._snapshotter, source, recorded=recorded) as view:
            yield copy.SourceTree(view.fd, name="the stage or image", keep_owner=True, owners=view.owners)

    def _directory(self, source: PinnedTree) -> str:
        if source.directory is not None:
            return source.directory
        with self._fetching_guard:
            lock = self._fetching.setdefault(source.identity, threading.Lock())
        with lock:
            if source.identity not in self._fetched:
                scheme = source.identity.partition(":")[0]
                assert self._store.run is not None
                directory = self._store.run.new_path("tree")
                fs.mkdir(directory, 0o700)
                self._tree_source(scheme).fetch(source, directory)
                self._fetched[source.identity] = directory
            return self._fetched[source.identity]

    def copy_into(self, directory: str, source: Evaluated, path: str, name: str) -> None:
        """Copy *path* of *source* to *name* in *directory* (empty: the content of the directory *path* goes into *directory*).

        A directory called *name* gets the mode that *path* has, unless that is the root of *source*.
        """
        action = Copy(0, (path or "/",), f"/{name}" if name else "/")
        root_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with self._open(source) as tree:
                selection = copy.select(tree, action)
                copy.apply(
                    (action,), (selection,), root_fd, owners=Owners(self._host.mapping), check=self._cancellation.check
                )
                top = selection.matches[0]
                if name and top.folders and top.path:
                    os.chmod(name, stat.S_IMODE(top.info.st_mode), dir_fd=root_fd)
        finally:
            os.close(root_fd)

    def own(self, directory: str, uid: int, gid: int, mode: int) -> None:
        """Give *directory* an owner and a mode."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            Owners(self._host.mapping).set_fd(descriptor, uid, gid)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)


def _input(inputs: Sequence[Evaluated], action: Copy) -> Evaluated:
    return inputs[action.input] if action.input is not None else EMPTY


def _stack_or_none(value: Evaluated) -> Stack | None:
    return value if isinstance(value, Stack) else None
