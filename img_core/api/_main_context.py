"""The main build context: a directory, or something to fetch first (docs/reference/contexts-and-sources.md); and what a frontend may ask
about the contents of contexts."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from img_core.api._definition import Definition, open_context, read_definition, read_definition_in
from img_core.files import fs
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import NotFoundError
from img_core.spec.graph import CONTEXT_SCHEME, SourceOp
from img_core.spec.text import why

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.api._contexts import Addresses, NamedContext
    from img_core.api._definition import DefinitionNames
    from img_core.api._frontends import Frontends
    from img_core.api._request import BuildRequest
    from img_core.spec.source import TreeSource

__all__ = ["KnownContexts", "MainContext", "prepare_context"]

_MAIN = SourceOp(CONTEXT_SCHEME, "context")


@dataclass(frozen=True, slots=True)
class MainContext:
    """A context that is on this machine now. *ignore_file* says what is hidden in it; None: there is no such file.

    *modified* returns when a remote context was made, if its origin tells (`TreeSource.modified`).
    """

    directory: str
    definition: Definition
    ignore_file: str | None = None
    modified: Callable[[], int | None] = lambda: None


def prepare_context(
    request: BuildRequest,
    frontends: Frontends,
    addresses: Addresses,
    source: Callable[[str], TreeSource],
    run_directory: str,
    fetched: dict[str, tuple[str, Callable[[], int | None]]],
) -> MainContext:
    """Fetch the context of *request* if it is remote, and read its definition. *run_directory* is private and goes with us.

    *fetched* keeps what was fetched, by its identity: where it is, and what tells when it was made. Raises UsageError, NotFoundError,
    DockerfileError, and what the source raises.
    """
    remote = addresses.tree(request.context)
    if remote is None:
        return _local(request, frontends, addresses, source, run_directory)
    driver = source(remote.kind)
    pinned = driver.pin(SourceOp(remote.kind, remote.reference, _options(request, frontends)), None)
    if pinned.identity not in fetched:
        directory = _new_directory(run_directory, "remote-context")
        driver.fetch(pinned, directory)
        fetched[pinned.identity] = directory, lambda: driver.modified(pinned)
    directory, modified = fetched[pinned.identity]
    # Ignore files are there to keep things from being sent; nothing was sent (IG20).
    ignore_file = os.path.join(run_directory, "no-ignore-file")
    fs.replace_file(ignore_file, b"")
    definition = _definition(request, frontends.names, directory)
    return MainContext(_inside(request, directory), definition, ignore_file, modified)


def _options(request: BuildRequest, frontends: Frontends) -> tuple[tuple[str, str], ...]:
    """Return what the frontend wants of a context; which one reads the definition is not known before it is here."""
    given = {name: value for name, value in request.build_args.items() if value is not None}
    return frontends.first.context_options(given)


def _local(
    request: BuildRequest,
    frontends: Frontends,
    addresses: Addresses,
    source: Callable[[str], TreeSource],
    run_directory: str,
) -> MainContext:
    descriptor = open_context(request.context)
    try:
        remote = addresses.tree(request.dockerfile, one_file=True) if request.dockerfile else None
        if remote:
            definition = _downloaded(remote, frontends.names, source, run_directory)
        else:
            definition = read_definition(request, frontends.names, descriptor)
    finally:
        os.close(descriptor)
    directory = _inside(request, os.path.abspath(request.context))
    names = frontends.of(definition.name).ignore_names(os.path.basename(definition.path or ""))
    beside = [os.path.join(os.path.dirname(definition.path), name) for name in names.beside] if definition.path else []
    within = [os.path.join(directory, name) for name in names.within]
    return MainContext(directory, definition, next(filter(os.path.lexists, [*beside, *within]), None))


def _inside(request: BuildRequest, directory: str) -> str:
    """Return the part of the context *directory* that the build may see. No link on the way is followed."""
    clean = os.path.normpath("/" + request.context_subdirectory).lstrip("/")
    if not clean:
        return directory
    try:
        with fs.opened_directory(directory) as root:
            os.close(fs.open_beneath(root, os.fsencode(clean), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as err:
        raise NotFoundError(
            f"sub-directory `{fs.show(clean)}` of the build context: {why(err)}",
            hint="links in its path are not followed",
        ) from err
    return os.path.join(directory, clean)


def _new_directory(run_directory: str, name: str) -> str:
    directory = os.path.join(run_directory, f"{name}-{os.urandom(4).hex()}")
    fs.mkdir(directory, 0o700)
    return directory


def _downloaded(
    remote: NamedContext, names: DefinitionNames, source: Callable[[str], TreeSource], run_directory: str
) -> Definition:
    """Return the definition that ``-f URL`` names."""
    directory = _new_directory(run_directory, "remote-definition")
    driver = source(remote.kind)
    op = SourceOp(remote.kind, remote.reference, (("filename", names.usual),))
    driver.fetch(driver.pin(op, None), directory)
    return read_definition_in(directory, names.usual, names)


def _definition(request: BuildRequest, names: DefinitionNames, directory: str) -> Definition:
    """Read the definition of a remote context: ``-f`` means a file in there. A URL of one text file is that definition."""
    if request.definition is not None:
        return Definition(request.definition, names.usual, None)
    name = request.dockerfile
    if name is None:
        there = os.listdir(directory)
        if len(there) == 1 and there[0] == os.path.basename(request.context.partition("?")[0].rstrip("/")):
            name = there[0]
    return read_definition_in(directory, name, names)


class KnownContexts:
    """What a `Resolver` asks for (solver.images.ContextFacts). *sources* gives the source of a scheme."""

    def __init__(self, main: MainContext, sources: Callable[[str], Any]) -> None:  # Any: an image or a tree source
        self._main = main
        self._sources = sources

    @cached_property
    def ignore_text(self) -> str | None:
        """The text of the main context's ignore file."""
        ignore: str | None = self._sources(CONTEXT_SCHEME).pin(_MAIN, None).ignore
        return ignore

    def source_time(self, op: SourceOp) -> int | None:
        """Return when the tree behind *op* was made, if its origin tells."""
        if op == _MAIN:
            return self._main.modified()
        source = self._sources(op.scheme)
        seconds: int | None = source.modified(source.pin(op, None))
        return seconds

    def why_missing(self, op: SourceOp, path: str, *, parents: bool) -> str | None:
        """Say why COPY of *path* from the local context *op* would find nothing; None if it may find something."""
        from img_core.files import copy

        pinned = self._sources(op.scheme).pin(op, None)
        if pinned.directory is None:
            return None
        return copy.why_missing(pinned.directory, path, pinned.ignore, pinned.ignore_name, parents=parents)
