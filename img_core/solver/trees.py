"""Opens what steps copy or mount from stages, images and contexts, and digests it for their keys."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import replace
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

__all__ = ["Trees", "is_context"]


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
        known = None if is_context(source) else self.known(source, action, whole=whole)
        if known is None:
            if base is not None and not is_context(source):
                self._scope.layers.unpack_soon(base)
            with self.open(source) as tree:
                known = self.selected(source, action, self.select(source, tree, action), whole=whole)
        return known

    def select(self, source: Evaluated, tree: copy.SourceTree, action: Copy) -> copy.Selection:
        """Return what *action* chooses from *tree*, which is that of *source*, with what is remembered of the files of a context."""
        if not is_context(source):
            return replace(copy.select(tree, action), reading=copy.Reading(marked=True))
        root = os.fstat(tree.fd)
        hashes = self._scope.store.records.file_digests(f"{root.st_dev}:{root.st_ino}")
        return replace(copy.select(tree, action), reading=copy.Reading(hashes))

    def selected(self, source: Evaluated, action: Copy, selection: copy.Selection, *, whole: bool = False) -> str:
        """Return the digest of *selection*, which is what *action* chose from *source*, and remember it, or what was read for it."""
        digest = copy.digest(selection, whole=whole, check=self._scope.cancellation.check)
        if is_context(source):
            assert selection.reading is not None
            selection.reading.save()
            return self._unpacked(selection, digest) if action.unpack else digest
        files = _files(action, whole)
        if not _is_imported(source):  # the identity may stand for another result in our records
            self._scope.store.records.set_tree_digest(source.identity, files, digest)
        return self.digests.setdefault(source.identity, {}).setdefault(files, digest)

    def _unpacked(self, selection: copy.Selection, digest: str) -> str:
        """Return a digest of what *selection* brings where archives are unpacked.

        *digest* is that of the files as they are; what it means is remembered, so that archives are read once.
        """
        records, subject = self._scope.store.records, f"archives {digest}"
        known = records.tree_digest(subject, "unpacked")
        if known is None:
            from img_core.archives import unpacking  # only where an archive is new

            known = digest_of("unpacked", *copy.unpacked_digests(selection, unpacking))
            records.set_tree_digest(subject, "unpacked", known)
        return known

    def known(self, source: Evaluated, action: Copy, *, whole: bool = False) -> str | None:
        """Return the remembered digest of what *action* would copy from *source*, which is no context.

        A finished stack, or a tree with an exact name, never changes: a fully cached build opens no layer and fetches nothing.
        """
        files = _files(action, whole)
        known = self._known(source, files)
        if known is not None:
            self.digests.setdefault(source.identity, {})[files] = known
        return known

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
        """Copy *path* of *source* to *name* in *directory*; see `copy.copy_path`."""
        with self.open(source) as tree:
            copy.copy_path(
                tree, path, directory, name, Owners(self._scope.host.mapping), self._scope.cancellation.check
            )


def is_context(source: Evaluated) -> bool:
    """Tell whether *source* is a directory of the user, which may change at any time."""
    return isinstance(source, PinnedTree) and source.directory is not None


def _files(action: Copy, whole: bool) -> str:
    return digest_of("files", canonical_value(action), whole)


def _is_imported(source: Evaluated) -> bool:
    return isinstance(source, Stack) and bool(source.layers) and source.layers[-1].imported is not None
