"""RUN --mount: opens what a step wants to have mounted."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.files.locks import ensure_directory
from img_core.files.ownership import Owners
from img_core.solver.keys import digest_of
from img_core.solver.stacks import EMPTY
from img_core.spec.errors import ImgError, NotFoundError
from img_core.spec.executor import Mount
from img_core.spec.source import PinnedTree

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
        self._emptied: set[str] = set()
        self._emptying = threading.Lock()
        self._kinds: Mapping[str, Callable[[ExitStack, RunMount, Sequence[Evaluated]], Mount | None]] = {
            "bind": self._bind,
            "cache": self._cache,
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
        for mount in op.mounts:
            if mount.type == "cache" and not use_cache and self._empty(mount, inputs):
                note(f"the cache mount `{fs.show(mount.target)}` was emptied, because the cache is not to be used")
            made = self._kinds[mount.type](opened, mount, inputs)
            if made is not None:
                yield made

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
        if shared:
            directory = self._shared_copy(source, path)
        else:
            directory = self._new_copy(source, path)
            opened.callback(fs.remove_tree, directory)
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, descriptor)
        return descriptor, "source"

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

    # -------------------------------------------------------------------------------------------------------- cache

    def _name(self, mount: RunMount, inputs: Sequence[Evaluated]) -> str:
        """Return the name of a cache's directory: each combination of id, owner, mode and first content has its own, as in BuildKit.

        A directory can have one owner, and who asks for another must be able to write.
        """
        seed = "" if mount.input is None else self._trees.mount_digest(mount, inputs)
        # hashed: an id is any text, and must never become a path (CVE-2024-9675)
        own = [mount.uid, mount.gid, _cache_mode(mount), seed]
        return digest_of("cache mount", mount.id or mount.target, *own)

    def _cache(self, opened: ExitStack, mount: RunMount, inputs: Sequence[Evaluated]) -> Mount:
        name = self._name(mount, inputs)
        if mount.sharing == "locked":
            opened.enter_context(self._store.lock(f"cache-mount:{name}", self._scope.cancellation.check))
        elif mount.sharing == "private":
            name = self._private_name(opened, name)
        self._store.use_cache_mount(name, f"cached mount {mount.target}")
        directory = os.path.join(self._store.state, "cache-mounts", name)
        with self._store.lock(f"cache-mount-making:{name}", self._scope.cancellation.check):
            if not os.path.isdir(directory):
                self._make_cache(directory, mount, inputs)
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, descriptor)
        return Mount(mount.target, source_fd=descriptor, readonly=mount.readonly)

    def _private_name(self, opened: ExitStack, name: str) -> str:
        """Return the first of *name*'s directories that nobody uses now."""

        class BusyError(Exception):
            pass

        def busy() -> None:
            raise BusyError

        number = 0
        while True:
            candidate = name if number == 0 else f"{name}-{number}"
            try:
                opened.enter_context(self._store.lock(f"cache-mount:{candidate}", busy))
            except BusyError:
                number += 1
            else:
                return candidate

    def _make_cache(self, directory: str, mount: RunMount, inputs: Sequence[Evaluated]) -> None:
        ensure_directory(os.path.dirname(directory))
        new = self._scope.new_path("cache")
        fs.mkdir(new, 0o700)
        if mount.input is not None:
            self._trees.copy_into(new, inputs[mount.input], mount.source, "")
        self._own(new, mount.uid, mount.gid, _cache_mode(mount))
        fs.rename(new, directory)

    def _own(self, directory: str, uid: int, gid: int, mode: int) -> None:
        """Give *directory* an owner and a mode."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            Owners(self._scope.host.mapping).set_fd(descriptor, uid, gid)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    def _empty(self, mount: RunMount, inputs: Sequence[Evaluated]) -> bool:
        """Empty a cache mount, once per build; tell whether there was one."""
        name = self._name(mount, inputs)
        with self._emptying:
            if name in self._emptied:
                return False
            self._emptied.add(name)
            directory = os.path.join(self._store.state, "cache-mounts", name)
            with self._store.lock(f"cache-mount-making:{name}", self._scope.cancellation.check):
                if not os.path.isdir(directory):
                    return False
                fs.rename(directory, self._scope.new_path("cache"))  # removed with the run directory
                return True

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
        descriptor = self._secrets.agent(
            opened, mount.id or "default", required=mount.required, uid=mount.uid, gid=mount.gid, mode=mode
        )
        return Mount(mount.target, source_fd=descriptor, readonly=False) if descriptor is not None else None


def _cache_mode(mount: RunMount) -> int:
    return 0o755 if mount.mode is None else mount.mode


def _open(opened: ExitStack, root_fd: int, path: str) -> int:
    relative = os.fsencode(path.lstrip("/") or ".")
    try:
        descriptor = fs.open_in_root(root_fd, relative, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError as err:
        raise NotFoundError(
            f'"/{fs.show(path.lstrip("/"))}": not found', hint="the source of a bind mount must exist"
        ) from err
    except OSError as err:
        raise ImgError(f"cannot mount `{fs.show(path)}`: {(err.strerror or str(err)).lower()}") from err
    opened.callback(os.close, descriptor)
    return descriptor
