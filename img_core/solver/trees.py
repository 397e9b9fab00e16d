"""Opens what steps copy or mount from stages, images and contexts, and digests it for their keys."""

from __future__ import annotations

import os
import stat
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.files import copy, fs
from img_core.files.ignore import IgnoreMatcher
from img_core.files.ownership import Owners
from img_core.solver.keys import digest_of
from img_core.solver.result import open_tree
from img_core.solver.stacks import Stack
from img_core.spec.graph import Copy, canonical_value
from img_core.spec.source import PinnedTree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from img_core.solver.scope import BuildScope
    from img_core.solver.stacks import Evaluated
    from img_core.spec.graph import RunMount
    from img_core.store.records import FileDigests

__all__ = ["Trees"]


class Trees:
    """The trees of files that steps of one build read; each that has to be fetched is fetched once."""

    def __init__(self, scope: BuildScope) -> None:
        self._scope = scope
        self.digests: dict[str, dict[str, str]] = {}  #: all that were asked for, by identity and chosen files
        self._fetched: dict[str, str] = {}
        self._fetching: dict[str, threading.Lock] = {}  # by tree: equal ones are fetched once
        self._fetching_guard = threading.Lock()

    def digest(self, source: Evaluated, action: Copy, base: Stack | None = None, *, whole: bool = False) -> str:
        """Return a digest of what *action* would copy from *source*, to *base*; *whole* as in `copy.digest`.

        If nobody asked for that digest before, no step is recorded for it: *base* will be needed, and is unpacked meanwhile.
        """
        records, check = self._scope.store.records, self._scope.cancellation.check
        if isinstance(source, PinnedTree) and source.directory is not None:
            with self.open(source) as tree:
                hashes = self.hashes(tree)
                digest = copy.digest(copy.select(tree, action), hashes, whole=whole, check=check)
                hashes.save()
                return self._unpacked(tree, action, digest) if action.unpack else digest
        # A finished stack, or a tree with an exact name, never changes: its digest is remembered, and a fully cached build opens no layer
        # and fetches nothing.
        files = digest_of("files", canonical_value(action), whole)
        known = self._known(source, files)
        if known is None:
            if base is not None:
                self._scope.layers.unpack_soon(base)
            with self.open(source) as tree:
                known = copy.digest(copy.select(tree, action), whole=whole, check=check)
            if not _is_imported(source):  # the identity may stand for another result in our records
                records.set_tree_digest(source.identity, files, known)
        self.digests.setdefault(source.identity, {})[files] = known
        return known

    def _unpacked(self, tree: copy.SourceTree, action: Copy, digest: str) -> str:
        """Return a digest of what *action* brings where archives are unpacked: how they are compressed, and called, does not count.

        *digest* is that of the files as they are; what it means is remembered, so that archives are read once.
        """
        records, subject = self._scope.store.records, f"archives {digest}"
        known = records.tree_digest(subject, "unpacked")
        if known is None:
            parts = [
                _archive_digest(tree, match) or copy.digest(copy.Selection(tree, (match,)), self.hashes(tree))
                for match in copy.select(tree, action).matches
            ]
            known = digest_of("unpacked", *parts)
            records.set_tree_digest(subject, "unpacked", known)
        return known

    def hashes(self, tree: copy.SourceTree) -> FileDigests:
        """Return the remembered digests of the files of *tree*."""
        root = os.fstat(tree.fd)
        return self._scope.store.records.file_digests(f"{root.st_dev}:{root.st_ino}")

    def _known(self, source: Evaluated, files: str) -> str | None:
        imports = self._scope.imports
        if _is_imported(source):
            return imports.tree_digest(source, files) if imports is not None else None
        known = self._scope.store.records.tree_digest(source.identity, files)
        if known is None and imports is not None and not (isinstance(source, Stack) and source.own):
            known = imports.fact(source.identity, files)
        return known

    def mount_digest(self, mount: RunMount, inputs: Sequence[Evaluated], base: Stack | None = None) -> str:
        """Return a digest of what *mount* brings from its input; *base* as in `digest`."""
        assert mount.input is not None
        action = Copy(mount.input, (mount.source or "/",), "/")
        return self.digest(inputs[mount.input], action, base, whole=mount.type == "bind")

    @contextmanager
    def open(self, source: Evaluated) -> Iterator[copy.SourceTree]:
        """Open *source* for reading."""
        if isinstance(source, PinnedTree):
            text, name = source.ignore, source.ignore_name
            ignore = IgnoreMatcher.from_file(text, name) if text is not None else None
            with fs.opened_directory(self._directory(source)) as descriptor:
                yield copy.SourceTree(descriptor, ignore=ignore, ignore_name=name)
            return
        with open_tree(self._scope, source) as view:
            yield copy.SourceTree(view.fd, name="the stage or image", keep_owner=True, owners=view.owners)

    def _directory(self, source: PinnedTree) -> str:
        if source.directory is not None:
            return source.directory
        with self._fetching_guard:
            lock = self._fetching.setdefault(source.identity, threading.Lock())
        with lock:
            if source.identity not in self._fetched:
                scheme = source.identity.partition(":")[0]
                directory = self._scope.new_path("tree")
                fs.mkdir(directory, 0o700)
                self._scope.drivers.tree_source(scheme).fetch(source, directory)
                self._fetched[source.identity] = directory
            return self._fetched[source.identity]

    def copy_into(self, directory: str, source: Evaluated, path: str, name: str) -> None:
        """Copy *path* of *source* to *name* in *directory* (empty: the content of the directory *path* goes into *directory*).

        A directory called *name* gets the mode that *path* has, unless that is the root of *source*.
        """
        action = Copy(0, (path or "/",), f"/{name}" if name else "/")
        with fs.opened_directory(directory) as root_fd, self.open(source) as tree:
            selection = copy.select(tree, action)
            owners, check = Owners(self._scope.host.mapping), self._scope.cancellation.check
            copy.apply((action,), (selection,), root_fd, owners=owners, check=check)
            top = selection.matches[0]
            if name and top.folders and top.path:
                os.chmod(name, stat.S_IMODE(top.info.st_mode), dir_fd=root_fd)


def _is_imported(source: Evaluated) -> bool:
    return isinstance(source, Stack) and bool(source.layers) and source.layers[-1].imported is not None


def _archive_digest(tree: copy.SourceTree, match: copy.Match) -> str | None:
    """Return a digest of what is in *match* if that is an archive; a damaged one is nothing of the kind until it is unpacked."""
    if not stat.S_ISREG(match.info.st_mode):
        return None
    from img_core.archives.unpacking import archive_digest  # only where an archive is new

    return archive_digest(tree.fd, match.path)
