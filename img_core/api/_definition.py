"""Finds and reads the build definition and checks the context, before anything else happens."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.spec.errors import DockerfileError, NotFoundError, UsageError

if TYPE_CHECKING:
    from img_core.api._request import BuildRequest

__all__ = ["Definition", "DefinitionNames", "open_context", "read_definition", "read_definition_in"]

#: Larger ones are a mistake: the path of something else.
DEFINITION_LIMIT = 16 * 1024 * 1024


class Definition:
    """The text of a build definition, its *name* for messages, and the *path* of its file, if it has one."""

    def __init__(self, text: bytes, name: str, path: str | None) -> None:
        self.text = text
        self.name = name
        self.path = path


class DefinitionNames(tuple[str, ...]):
    """What a build definition is called where nobody named it; the first that is there counts."""

    __slots__ = ()

    @property
    def usual(self) -> str:
        """The name of a definition that is in no file."""
        return self[0] if self else "definition"

    def unreadable(self, name: str, err: OSError) -> DockerfileError:
        """Return the error for the file *name*, which cannot be read."""
        reason = os.strerror(err.errno or errno.EIO).lower()
        hint = "name another file with `-f`" if err.errno == errno.ENOENT else None
        return DockerfileError(f"failed to read {self.usual.lower()}: open {fs.show(name)}: {reason}", hint=hint)


def open_context(path: str) -> int:
    """Return a descriptor of the context directory *path*. Raises UsageError, NotFoundError."""
    if not path:
        raise UsageError('please specify build context (e.g. "." for the current directory)')
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as err:
        raise NotFoundError(f"build context `{fs.show(path)}`: no such directory") from err
    except NotADirectoryError as err:
        raise UsageError(
            f"build context `{fs.show(path)}` is not a directory",
            hint="pass a directory, or `-` to read an archive from stdin",
        ) from err
    except OSError as err:
        raise UsageError(f"build context `{fs.show(path)}`: {os.strerror(err.errno or errno.EIO).lower()}") from err


def read_definition(request: BuildRequest, names: DefinitionNames, context_fd: int) -> Definition:
    """Return the build definition of *request*. Raises DockerfileError if it is missing or no regular file."""
    if request.definition is not None:
        return Definition(request.definition, names.usual, None)
    if request.dockerfile is not None:
        return _named_by_user(request.dockerfile, names)
    return _first_of(context_fd, request.context, names)


def read_definition_in(directory: str, name: str | None, names: DefinitionNames) -> Definition:
    """Return the build definition *name* (None: the usual *names*) in *directory*, which came from elsewhere: its links stay inside."""
    descriptor = open_context(directory)
    try:
        if name is None:
            return _first_of(descriptor, directory, names)
        text = _read(descriptor, name, names)
        if text is None:
            raise names.unreadable(name, FileNotFoundError(errno.ENOENT, "no such file"))
        return Definition(text, name, None)
    finally:
        os.close(descriptor)


def _first_of(context_fd: int, directory: str, names: DefinitionNames) -> Definition:
    for name in names:
        text = _read(context_fd, name, names)
        if text is not None:
            return Definition(text, name, os.path.join(directory, name))
    if not names:
        raise UsageError("nothing says which file is the build definition", hint="name it with `-f`")
    raise names.unreadable(names[0], FileNotFoundError(errno.ENOENT, "no such file"))


def _named_by_user(path: str, names: DefinitionNames) -> Definition:
    """Read a file that the user named: unlike one of a context, its links lead anywhere."""
    directory, name = os.path.split(os.path.realpath(path))
    try:
        with fs.opened_directory(directory, os.O_PATH) as parent:
            text = fs.read_bounded(parent, os.fsencode(name), DEFINITION_LIMIT)
    except OSError as err:
        raise names.unreadable(path, err) from err
    return Definition(text, os.path.basename(path), os.path.abspath(path))


def _read(context_fd: int, name: str, names: DefinitionNames) -> bytes | None:
    """Return the file *name* of a context, None if it is not there."""
    try:
        return fs.read_bounded(context_fd, os.fsencode(name), DEFINITION_LIMIT)
    except FileNotFoundError:
        return None
    except OSError as err:
        raise names.unreadable(name, err) from err
