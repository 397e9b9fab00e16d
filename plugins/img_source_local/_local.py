"""Local build contexts: used where they are, seen through their ignore file."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, ClassVar, Final

from img_core.files import fs
from img_core.spec.errors import DockerfileError, ImgError, NotFoundError, UsageError
from img_core.spec.graph import CONTEXT_SCHEME
from img_core.spec.source import PinnedTree, TreeSource

if TYPE_CHECKING:
    from img_core.spec.graph import SourceOp
    from img_core.spec.values import Platform

__all__ = ["LocalSource"]

_IGNORE_LIMIT: Final = 8 << 20  # bytes; real ones have some hundred


class LocalSource(TreeSource):
    """Build contexts that are directories.

    `SourceContext.ignore_files` may name an ignore file that comes first, if it exists. Even an empty one counts
    (docs/reference/dockerfile-cases.md, IG18).
    """

    name: ClassVar[str] = CONTEXT_SCHEME
    waits: ClassVar[bool] = False

    def pin(self, op: SourceOp, platform: Platform | None) -> PinnedTree:
        """Find the context's directory and read its ignore file; nothing else is read."""
        directory = self._directory(op.reference)
        found, shown = self._ignore_file(op.reference, directory)
        state = _inside(directory, self.context.host.state_directory)
        if state:
            # Last, so that no `!` brings it back: it changes while it is read, and has what other builds left there.
            found = f"{found or ''}\n{_pattern(state)}\n"
        return PinnedTree(f"local:{directory}", directory, found, shown)

    def _ignore_file(self, name: str, directory: str) -> tuple[str | None, str]:
        """Return the text of the ignore file of the context *name*, None if it has none, and what it is called, or would be."""
        usual = [os.path.join(directory, each) for each in self.context.ignore_names]
        for path in [*filter(None, [self.context.ignore_files.get(name)]), *usual]:
            text = _read_ignore_file(path)
            if text is not None:
                return text, os.path.basename(path)
        return None, self.context.ignore_names[0] if usual else ""

    def _directory(self, name: str) -> str:
        directory = self.context.contexts.get(name)
        if directory is None:
            raise NotFoundError(f"there is no build context `{fs.show(name)}`")
        try:
            mode = os.stat(directory).st_mode
        except OSError as err:
            reason = os.strerror(err.errno or 0).lower()
            raise NotFoundError(f"unable to prepare context: {reason}: `{fs.show(directory)}`") from err
        if not stat.S_ISDIR(mode):
            raise NotFoundError(f"unable to prepare context: not a directory: `{fs.show(directory)}`")
        return os.path.abspath(directory)


def _inside(directory: str, state: str) -> str:
    """Return where the state directory lies in *directory*, empty if it is elsewhere. Raises UsageError if they are the same."""
    root, place = os.path.realpath(directory), os.path.realpath(state)
    if root == place:
        raise UsageError(f"the build context `{fs.show(directory)}` is the state directory")
    return place[len(root.rstrip("/")) + 1 :] if place.startswith(root.rstrip("/") + "/") else ""


def _pattern(path: str) -> str:
    """Return *path* as a pattern that means it literally."""
    return "".join(f"\\{char}" if char in "\\*?[]!#" else char for char in path)


def _read_ignore_file(path: str) -> str | None:
    """Return the text of the ignore file *path*, None if it does not exist.

    A context may come from strangers: a link is followed inside its directory only (``.dockerignore -> .gitignore`` is in use), and a
    FIFO must not make us wait for ever.
    """
    head, name = os.path.split(path)
    try:
        directory = os.open(head or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as err:
        raise _unreadable(path, err) from err
    try:
        return _read_bounded(directory, os.fsencode(name)).decode("utf-8", "surrogateescape")
    except FileNotFoundError as err:
        if not _exists(directory, name):
            return None
        raise DockerfileError(f"`{fs.show(name)}` is a link that leads nowhere inside `{fs.show(head)}`") from err
    except OSError as err:
        raise _unreadable(path, err) from err
    finally:
        os.close(directory)


def _read_bounded(directory: int, name: bytes) -> bytes:
    try:
        return fs.read_bounded(directory, name, _IGNORE_LIMIT)
    except ImgError as err:
        raise DockerfileError(err.message, hint="an ignore file is a text file with one pattern per line") from err


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _unreadable(path: str, err: OSError) -> ImgError:
    hint = "make it readable for you" if err.errno in (errno.EACCES, errno.EPERM) else None
    return ImgError(f"cannot read `{fs.show(path)}`: {os.strerror(err.errno or 0).lower()}", hint=hint)
