"""Runs the actions of one file operation in a root file system."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from img_core.files import fs, xattrs
from img_core.files.copy._digest import changed_error, open_file, opened, same_version
from img_core.files.copy._places import NewDirectory, TargetRoot, finish_directory
from img_core.files.copy._select import select
from img_core.files.copy._tree import SourceTree, reading
from img_core.files.copy._write import CopyWriter
from img_core.files.modes import ModeChange, parse_mode
from img_core.files.passwd import resolve_owner
from img_core.spec.errors import ImgError, NotFoundError
from img_core.spec.graph import Copy, MakeDirectory, WriteFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from img_core.files.copy._archives import Unpacker
    from img_core.files.copy._select import Match, Selection
    from img_core.files.ownership import Owners
    from img_core.spec.graph import FileAction

__all__ = ["apply", "copy_path"]

_MOST_WARNINGS = 50


def apply(
    actions: Sequence[FileAction],
    selections: Sequence[Selection | None],
    root_fd: int,
    *,
    owners: Owners,
    now_ns: int | None = None,
    check: Callable[[], None] = lambda: None,
    archives: Unpacker | None = None,
) -> list[str]:
    """Change the files of the root *root_fd* by *actions* in order; return warnings.

    *selections* runs beside *actions* and has the selection of each `Copy`, None for others. *owners* sets or records owners; give its
    `recorded` to `Snapshotter.record_owners` afterwards. *now_ns* is the time of what has none of its own (None: the clock).
    *check* is called often and may raise to stop the work. *archives* is needed for a `Copy` that unpacks.

    Raises `ImgError` subclasses that name paths of the root and of the sources. What was done until then stays.
    """
    runner = _Runner(TargetRoot(root_fd, owners, now_ns), check, archives)
    for action, selection in zip(actions, selections, strict=True):
        try:
            with fs.disk_errors(b"/"):
                runner.run(action, selection)
        except OSError as err:
            shown = fs.show(fs.place_of(err, _destination(action)))
            raise ImgError(f"cannot write `{shown}`: {os.strerror(err.errno or 0).lower()}") from err
    runner.root.finish()
    return runner.warnings


def copy_path(
    tree: SourceTree, path: str, directory: str, name: str, owners: Owners, check: Callable[[], None]
) -> None:
    """Copy *path* of *tree* to *name* in *directory* (empty: the content of the directory *path* goes into *directory*).

    A directory called *name* gets the mode that *path* has, unless that is the root of *tree*. Otherwise as `apply`.
    """
    action = Copy(0, (path or "/",), f"/{name}" if name else "/")
    root_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        selection = select(tree, action)
        apply((action,), (selection,), root_fd, owners=owners, check=check)
        top = selection.matches[0]
        if name and top.folders and top.path:
            with opened(tree, top.path) as source, reading(tree, top.path):
                marks = xattrs.read_all(source) if tree.keep_owner else xattrs.Marks()
            finish_directory(root_fd, os.fsencode(name), marks.mode_of(top.info.st_mode), None, owners)
    finally:
        os.close(root_fd)


def _destination(action: FileAction) -> str:
    return action.path if isinstance(action, MakeDirectory) else action.destination


class _Runner:
    def __init__(self, root: TargetRoot, check: Callable[[], None], archives: Unpacker | None) -> None:
        self.root = root
        self.check = check
        self.archives = archives
        self._warnings: dict[str, None] = {}
        self._unsaid = 0

    @property
    def warnings(self) -> list[str]:
        """Return each warning once, and how many were too many."""
        more = [f"and {self._unsaid} more warnings of this kind"] if self._unsaid else []
        return [*self._warnings, *more]

    def run(self, action: FileAction, selection: Selection | None) -> None:
        if isinstance(action, MakeDirectory):
            self._make_directory(action)
        elif isinstance(action, WriteFile):
            self._write_file(action)
        else:
            assert selection is not None, "a copy needs its selection"
            _CopyRun(self, action, selection).run()

    def warn(self, text: str) -> None:
        if len(self._warnings) < _MOST_WARNINGS:
            self._warnings[text] = None
        elif text not in self._warnings:
            self._unsaid += 1

    def _make_directory(self, action: MakeDirectory) -> None:
        try:
            ids = resolve_owner(self.root.fd, action.owner)
        except NotFoundError as err:
            # As BuildKit does it: USER may name somebody whom a later step brings.
            self.warn(f"{err.message}: `{fs.show(action.path)}` belongs to root")
            ids = (0, 0)
        fd, _ = self.root.directory(os.fsencode(action.path), NewDirectory(action.mode, *ids))
        os.close(fd)

    def _write_file(self, action: WriteFile) -> None:
        ids = resolve_owner(self.root.fd, action.owner) if action.owner else (0, 0)
        mode = parse_mode(action.mode)
        new = NewDirectory(mode.for_new_parent(), *ids)
        path, name = os.fsencode(action.destination), os.fsencode(action.name)
        writer = CopyWriter(self.root, SourceTree(-1), ids, mode, self.warn)
        now = time.time_ns() if self.root.now_ns is None else self.root.now_ns
        if path.endswith((b"/", b"/.")) or self.root.is_directory(path):
            fd, target_path = self.root.directory(path, new)
        else:
            place = self.root.place(path, new)
            fd, name, target_path = place.fd, place.name, place.path.rpartition(b"/")[0]
        try:
            writer.content(action.content, 0o644, now, fd, target_path, name)
        finally:
            os.close(fd)


class _CopyRun:
    """One COPY or ADD."""

    def __init__(self, runner: _Runner, copy: Copy, selection: Selection) -> None:
        self.runner = runner
        self.root = runner.root
        self.copy = copy
        self.selection = selection
        self.destination = os.fsencode(copy.destination)
        self.mode: ModeChange = parse_mode(copy.mode)
        ids = resolve_owner(self.root.fd, copy.owner) if copy.owner else None
        self.ids = ids
        self.new = NewDirectory(self.mode.for_new_parent(), *(ids or (0, 0)))
        self.writer = CopyWriter(self.root, selection.tree, ids, self.mode, runner.warn, selection.reading)

    def run(self) -> None:
        for text in self.selection.warnings:
            self.runner.warn(text)
        into = self.copy.parents or self.destination.endswith((b"/", b"/."))
        into = into or self.root.is_directory(self.destination)
        if self.copy.parents:
            os.close(self.root.directory(self.destination, self.new)[0])
        self._require_one_file(into)
        for match in self.selection.matches:
            self.runner.check()
            self.writer.links.start(match)
            if match.folders:
                self._folders(match)
            else:
                self._file(match, into)

    def _require_one_file(self, into: bool) -> None:
        """Several files cannot become one; BuildKit would keep the last (docs/reference/dockerfile-cases.md, CP2)."""
        matches = self.selection.matches
        if into or len(matches) < 2 or not any(not match.folders for match in matches):
            return
        shown = fs.show(self.destination)
        raise ImgError(
            f"{len(matches)} sources cannot become one file: `{shown}`",
            hint=f"end the destination with a slash: `{shown}/`",
        )

    def _folders(self, match: Match) -> None:
        fd, path = self.root.directory(self.destination, self.new)
        try:
            self.writer.parents(match, fd, path)
            self.writer.folders(match, fd, path, self.runner.check)
        finally:
            os.close(fd)

    def _file(self, match: Match, into: bool) -> None:
        if self.copy.unpack and self._unpacked(match):
            return
        if not into:
            place = self.root.place(self.destination, self.new)
            self._write(match, place.fd, place.path.rpartition(b"/")[0], place.name)
            return
        fd, path = self.root.directory(self.destination, self.new)
        head, _, name = match.name.rpartition(b"/")
        if not head:
            self._write(match, fd, path, name)
            return
        try:
            self.writer.parents(match, fd, path)
            below = fs.open_beneath(fd, head, os.O_PATH | os.O_DIRECTORY)
            try:
                self.writer.file(match, below, b"/".join(part for part in (path, head) if part), name, head, fd)
            finally:
                os.close(below)
        finally:
            os.close(fd)

    def _write(self, match: Match, fd: int, path: bytes, name: bytes) -> None:
        try:
            self.writer.file(match, fd, path, name)
        finally:
            os.close(fd)

    def _unpacked(self, match: Match) -> bool:
        """Unpack *match* if it is an archive."""
        tree, archives = self.selection.tree, self.runner.archives
        assert archives is not None, "a copy that unpacks needs to know how"
        if not stat.S_ISREG(match.info.st_mode):
            return False
        head, _, last = match.path.rpartition(b"/")
        with opened(tree, head) as directory:
            fd = open_file(tree, directory, last, match.path, match.info)
        try:
            with reading(tree, match.path):
                if not archives.is_archive(fd):
                    return False
            # `--chmod` concerns neither the entries nor the directory that they are unpacked into.
            target, path = self.root.directory(self.destination, NewDirectory(0o755, *(self.ids or (0, 0))))
            try:
                self.root.note_change(path)
                with reading(tree, match.path):  # what is written has been told by then
                    archives.unpack(fd, target, path, self.root.owners, self.ids, self.runner.warn)
            finally:
                os.close(target)
            looked = self.selection.reading
            with reading(tree, match.path):
                is_same = looked is None or looked.confirm(fd, match.info, self.runner.check)
                is_same = is_same and same_version(os.fstat(fd), match.info)
            if not is_same:
                raise changed_error(tree, match.path)
        finally:
            os.close(fd)
        return True
