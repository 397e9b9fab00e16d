"""Which builds would do the same again as long as nothing changes, and what must not change for that."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

from img_core.cli import _repeated
from img_core.cli._exit import is_debug
from img_core.config import DEFAULT_EXPORTER
from img_core.files.fingerprint import SETTLED_NS, fingerprint
from img_core.spec.graph import CONTEXT_SCHEME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.api import BuildRequest, BuildResult, Client, Output
    from img_core.cli._archives import Archive

__all__ = ["Repeatable", "repeatable"]

#: Fields of a request with which a build reads or writes something else, or does not look into the cache.
_ELSEWHERE = (
    "definition",
    "secrets",
    "ssh",
    "contexts",
    "cache_from",
    "cache_to",
    "pull",
    "no_cache",
    "no_cache_filter",
)
#: Flags that do more than to build.
_MORE = ("iidfile", "metadata_file", "explain")
#: Kinds of drivers whose part depends on nothing but what they are given and what we look at; of sources and exporters one each.
#: Exporters of archives join them, if these can be written again.
_CLOSED = ("frontend", "snapshotter", "progress")
_CLOSED_DRIVERS = (("source", CONTEXT_SCHEME), ("exporter", DEFAULT_EXPORTER))

#: How the log of a build ends that found everything in the cache.
_NOTHING_RAN = b',"ran":0}\n'
_TIME = re.compile(rb'"time":[0-9.e+]+')  # no text of a JSON document contains this: its quotes are escaped


def repeatable(client: Client, request: BuildRequest, flags: Mapping[str, Any]) -> Repeatable | None:
    """Return what leaves a note of the build of *request*, which begins now; None if it cannot be repeated. Any: values of flags."""
    watch = _repeated.watched()
    if watch is None or is_debug() or flags["on_error"] == "shell" or any(flags[name] for name in _MORE):
        return None
    config = client.config
    if any(getattr(request, name) for name in _ELSEWHERE):
        return None
    if request.locked is not None or config.plugin_files or (config.trust_tags and not request.offline):
        return None
    context = os.path.abspath(request.context)
    files = _state_files(config.state_directory) + _sources_of_plugins()
    if request.dockerfile is not None:
        definition = os.path.abspath(request.dockerfile)
        if not os.path.realpath(definition).startswith(os.path.realpath(context) + os.sep):
            return None  # its ignore file may lie beside it
        files.append(definition)
    trees = [context, *(os.path.dirname(each.path) for each in config.toggle_directories)]
    found = Repeatable(client, watch, tuple(trees), tuple(files), request.outputs)
    return found if found.print is not None else None


class Repeatable:
    """A build that may be repeated. The *trees* and *files* are looked at before it begins and after it has ended."""

    def __init__(
        self,
        client: Client,
        watch: _repeated.Overhearing,
        trees: tuple[str, ...],
        files: tuple[str, ...],
        outputs: Sequence[Output],
    ) -> None:
        self._client = client
        self._watch = watch
        self._trees = trees
        self._files = files
        self._outputs = outputs
        self._dests: list[str] = []  #: archives that it writes
        self._state = client.config.state_directory
        self._before = ""
        self._answer = ""
        self._is_closed = False
        self.print = self._look()

    def _look(self) -> bytes | None:
        settled = self._watch.began - SETTLED_NS
        return fingerprint(trees=self._trees, files=self._files, places=(self._state,), settled=settled)

    def ended(self) -> None:
        """Learn, while the client is open, whether the build was made by drivers that ask nobody."""
        plugins = self._client.plugins
        archives = {output.type for output in self._outputs if plugins.driver("exporter", output.type).saves}
        self._dests = [str(output.options.get("dest", "")) for output in self._outputs if output.type in archives]
        closed = {*_CLOSED_DRIVERS, *(("exporter", name) for name in archives)}
        self._is_closed = not plugins.names("listener") and all(
            own and (key[0] in _CLOSED or key in closed) for key, own in plugins.made.items()
        )

    def answer(self, text: str) -> None:
        """Learn that *text* is now written to standard output."""
        self._before, self._answer = self._watch.said(), text

    def keep(self, result: BuildResult) -> None:
        """Leave a note, if nothing changed since the build began."""
        if not self._is_closed or self.print != self._look():
            return
        log = self._log(result.build)
        if not log.endswith(_NOTHING_RAN):
            return
        archives = self._archives()
        if archives is None:
            return
        before, after = self._before, self._watch.said()[len(self._before) :]
        assert self.print is not None
        self._watch.keep(
            _repeated.Repetition(
                self._state,
                before,
                self._answer,
                after,
                log,
                self._trees,
                self._files,
                (self._state,),
                (os.path.join(self._state, "img.db-wal"),),  # there while the database is open
                self.print,
                b"",
                archives,
            )
        )

    def _archives(self) -> tuple[Archive, ...] | None:
        """Return the archives that were written; None if there is one that cannot be written again."""
        if not self._dests:
            return ()
        from img_core.cli.build._taken_apart import taken_apart  # tar

        found = [taken_apart(dest, self._state) for dest in self._dests]
        return tuple(archive for archive in found if archive) if all(found) else None

    def _log(self, build: str) -> bytes:
        from img_core.files.logs import DIRECTORY, list_logs

        for found in list_logs(self._state):
            if build and found.id == build:
                with open(os.path.join(self._state, DIRECTORY, found.name), "rb") as file:
                    return _TIME.sub(b'"time":\0', file.read())
        return b""


def _state_files(state: str) -> list[str]:
    """Return what of the state directory tells that something in it was made, named or removed."""
    names = ["img.db", "img.db-journal", "img.db-suspect", "blobs/sha256", "names", "snapshots", "failed"]
    names += [f"snapshots/{name}" for name in _listed(os.path.join(state, "snapshots"))]
    names += [name for name in _listed(state) if name.startswith("worked-")]
    return [os.path.join(state, name) for name in names]


def _sources_of_plugins() -> list[str]:
    """Return what changes when a plugin is installed or removed: as `img_core.plugins` finds them, by distributions."""
    found = ["/etc/subuid", "/etc/subgid"]
    for path in map(os.path.abspath, sys.path):
        found.append(path)
        for name in _listed(path):
            if name.endswith((".dist-info", ".egg-info")):
                found += [os.path.join(path, name), os.path.join(path, name, "entry_points.txt")]
    return found


def _listed(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []
