"""RUN --mount: opens what a step wants to have mounted."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.solver.cache_mounts import CacheMounts
from img_core.solver.stacks import EMPTY
from img_core.spec.errors import ImgError, NotFoundError
from img_core.spec.executor import Mount
from img_core.spec.source import PinnedTree
from img_core.spec.text import why

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from img_core.solver.scope import BuildScope
    from img_core.solver.secrets import Secrets
    from img_core.solver.stacks import Evaluated, Stack
    from img_core.solver.trees import Trees
    from img_core.spec.graph import RunMount, RunOp

__all__ = ["RunMounts"]


class RunMounts:
    """Opens mounts for the steps of one build. Everything opened for a step is closed with its `ExitStack`."""

    def __init__(self, scope: BuildScope, trees: Trees, secrets: Secrets) -> None:
        self._scope = scope
        self._store = scope.store
        self._trees = trees
        self._secrets = secrets
        self._copies: dict[tuple[str, str | None, str], str] = {}  # of trees from outside: identity, ignore file, path
        self._copy_locks: dict[tuple[str, str | None, str], threading.Lock] = {}
        self._copying = threading.Lock()  # guards these locks
        self.caches = CacheMounts(scope, trees)
        self._kinds: Mapping[str, Callable[[ExitStack, RunMount, Sequence[Evaluated]], Mount | None]] = {
            "bind": self._bind,
            "tmpfs": self._tmpfs,
            "secret": self._secret,
            "ssh": self._ssh,
        }

    def open(
        self,
        opened: ExitStack,
        op: RunOp,
        inputs: Sequence[Evaluated],
        *,
        use_cache: bool,
        note: Callable[[str], None] = lambda _text: None,
    ) -> Iterator[Mount]:
        """Give the mounts of *op*. Without *use_cache* its cache mounts start empty, once per build; *note* gets a line about each."""
        self.caches.take_turns(opened, [mount for mount in op.mounts if mount.type == "cache"], inputs)
        for mount in op.mounts:
            if mount.type == "cache" and not use_cache and self.caches.empty(mount, inputs):
                note(f"the cache mount `{fs.show(mount.target)}` was emptied, because the cache is not to be used")
            made: Mount | None
            if mount.type == "cache":
                made = self.caches.open(opened, mount, inputs, note)
            else:
                made = self._kinds[mount.type](opened, mount, inputs)
            if made is not None:
                yield replace(made, options=mount.options)

    def environment(self, op: RunOp) -> Iterator[tuple[str, str]]:
        """Give the environment variables that secrets of *op* become; an optional one that is missing becomes empty."""
        for mount in op.mounts:
            if mount.type == "secret" and mount.env:
                data = self._secrets.read(mount.id, required=mount.required)
                yield mount.env, (data or b"").decode("utf-8", "surrogateescape")

    # -------------------------------------------------------------------------------------------------- bind, tmpfs

    def _tmpfs(self, _opened: ExitStack, mount: RunMount, _inputs: Sequence[Evaluated]) -> Mount:
        return Mount(mount.target, "tmpfs", readonly=False, size=mount.size)

    def _bind(self, opened: ExitStack, mount: RunMount, inputs: Sequence[Evaluated]) -> Mount:
        source = EMPTY if mount.input is None else inputs[mount.input]
        if isinstance(source, PinnedTree):
            # A copy: the step must neither see what the ignore file hides nor reach the user's own files.
            root_fd, path = self._copy(opened, source, mount.source, shared=mount.readonly)
        elif mount.readonly:
            root_fd, path = opened.enter_context(self._scope.layers.snapshots.view(source)).fd, mount.source
        else:
            root_fd, path = self._scratch(opened, source), mount.source
        return Mount(mount.target, source_fd=_open(opened, root_fd, path), readonly=mount.readonly)

    def _copy(self, opened: ExitStack, source: PinnedTree, path: str, *, shared: bool) -> tuple[int, str]:
        """Copy *path* of *source*; return a descriptor of a directory and the name of the copy in it.

        All steps of a build that cannot write see the same copy, and thereby the same files. It goes with the run directory.
        """
        directory = self._shared_copy(source, path) if shared else self._new_copy(source, path)
        if not shared:
            opened.callback(fs.remove_tree, directory)
        return opened.enter_context(fs.opened_directory(directory, os.O_PATH)), "source"

    def _shared_copy(self, source: PinnedTree, path: str) -> str:
        key = (source.identity, source.ignore, path)
        with self._copying:
            lock = self._copy_locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._copies:
                self._copies[key] = self._new_copy(source, path)
            return self._copies[key]

    def _new_copy(self, source: PinnedTree, path: str) -> str:
        directory = self._scope.new_path("mount")
        fs.mkdir(directory, 0o755)
        self._trees.copy_into(directory, source, path, "source")
        return directory

    def _scratch(self, opened: ExitStack, source: Stack) -> int:
        directory = self._scope.new_path("mount")
        top = self._scope.layers.snapshots.top(source)
        opened.callback(self._remove, directory)
        rootfs = self._scope.drivers.snapshotter.prepare(directory, top.directories if top else ())
        opened.callback(rootfs.close)
        return rootfs.fd

    def _remove(self, directory: str) -> None:
        if os.path.lexists(directory):
            self._scope.drivers.snapshotter.remove(directory)

    # ------------------------------------------------------------------------------------------------- secret, ssh

    def _secret(self, opened: ExitStack, mount: RunMount, _inputs: Sequence[Evaluated]) -> Mount | None:
        if not mount.target:
            return None  # an environment variable only
        data = self._secrets.read(mount.id, required=mount.required)
        if data is None:
            return None
        mode = 0o400 if mount.mode is None else mount.mode
        descriptor = self._secrets.file(opened, data, uid=mount.uid, gid=mount.gid, mode=mode)
        return Mount(mount.target, source_fd=descriptor, readonly=True)

    def _ssh(self, opened: ExitStack, mount: RunMount, _inputs: Sequence[Evaluated]) -> Mount | None:
        mode = 0o600 if mount.mode is None else mount.mode
        owner = mount.uid, mount.gid
        if (descriptor := self._secrets.agent(opened, mount.id or "default", mount.required, owner, mode)) is None:
            return None
        return Mount(mount.target, source_fd=descriptor, readonly=False, mode=mode, owner=owner)


def _open(opened: ExitStack, root_fd: int, path: str) -> int:
    relative = os.fsencode(path.lstrip("/") or ".")
    try:
        descriptor = fs.open_in_root(root_fd, relative, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError as err:
        raise NotFoundError(
            f'"/{fs.show(path.lstrip("/"))}": not found', hint="the source of a bind mount must exist"
        ) from err
    except OSError as err:
        raise ImgError(f"cannot mount `{fs.show(path)}`: {why(err)}") from err
    opened.callback(os.close, descriptor)
    return descriptor
