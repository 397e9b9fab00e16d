"""Cache mounts of RUN: directories that outlive the steps that mount them."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.files.locks import ensure_directory, sweep
from img_core.files.ownership import Owners
from img_core.solver.keys import digest_of
from img_core.spec.executor import Mount

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack

    from img_core.solver.scope import BuildScope
    from img_core.solver.stacks import Evaluated
    from img_core.solver.trees import Trees
    from img_core.spec.graph import RunMount

__all__ = ["CacheMounts"]


class CacheMounts:
    """The cache mounts of one build."""

    def __init__(self, scope: BuildScope, trees: Trees) -> None:
        self._scope = scope
        self._store = scope.store
        self._trees = trees
        self._emptied: set[str] = set()
        self._emptying = threading.Lock()
        self._opened: set[str] = set()
        #: ids of those that steps may have changed and that others can use, by the names of directories
        self.used: dict[str, str] = {}

    def _name(self, mount: RunMount, inputs: Sequence[Evaluated]) -> str:
        """Return the name of a cache's directory: each combination of id, owner, mode and first content has its own, as in BuildKit.

        A directory can have one owner, and who asks for another must be able to write.
        """
        seed = "" if mount.input is None else self._trees.mount_digest(mount, inputs)
        # hashed: an id is any text, and must never become a path (CVE-2024-9675)
        return digest_of("cache mount", mount.id or mount.target, mount.uid, mount.gid, _cache_mode(mount), seed)

    def take_turns(self, opened: ExitStack, mounts: Sequence[RunMount], inputs: Sequence[Evaluated]) -> None:
        """Lock what one step at a time can have of the caches among *mounts*, in one order for all: nobody waits in a circle."""
        alone = ("locked", "shared") if self._scope.drivers.executor().lends else ("locked",)
        for name in sorted({self._name(mount, inputs) for mount in mounts if mount.sharing in alone}):
            self._lock(opened, name, self._scope.cancellation.check)

    def _lock(self, opened: ExitStack, name: str, check: Callable[[], None]) -> None:
        opened.enter_context(self._store.lock(f"cache-mount:{name}", check))
        if not os.path.isdir(self._directory(name)):
            sweep(self._store.state)  # perhaps it is where a step had it whose builder was killed

    def _directory(self, name: str) -> str:
        return os.path.join(self._store.state, "cache-mounts", name)

    def open(
        self, opened: ExitStack, mount: RunMount, inputs: Sequence[Evaluated], note: Callable[[str], None]
    ) -> Mount:
        """Open the directory of *mount* until *opened* ends, after `take_turns`; a missing one is made, of what an imported cache has.

        *note* gets a line in that case.
        """
        name = self._name(mount, inputs)
        if mount.sharing == "private":
            name = self._private_name(opened, name)
        self._store.use_cache_mount(name, f"cached mount {mount.target}")
        directory = self._directory(name)
        with self._store.lock(f"cache-mount-making:{name}", self._scope.cancellation.check):
            if not self._restored(name, directory, mount, note) and not os.path.isdir(directory):
                self._make_cache(directory, mount, inputs)
            self._opened.add(name)
        if mount.sharing != "private" and not mount.readonly:
            self.used[name] = mount.id or mount.target
        descriptor = opened.enter_context(fs.opened_directory(directory, os.O_PATH))
        return Mount(mount.target, source_fd=descriptor, readonly=mount.readonly)

    def _private_name(self, opened: ExitStack, name: str) -> str:
        """Return the first of *name*'s directories that nobody uses now."""

        def busy() -> None:
            raise BlockingIOError

        candidate, number = name, 0
        while True:
            with suppress(BlockingIOError):
                self._lock(opened, candidate, busy)
                return candidate
            number += 1
            candidate = f"{name}-{number}"

    def _make_cache(self, directory: str, mount: RunMount, inputs: Sequence[Evaluated]) -> None:
        ensure_directory(os.path.dirname(directory))
        new = self._scope.new_path("cache")
        fs.mkdir(new, 0o700)
        if mount.input is not None:
            self._trees.copy_into(new, inputs[mount.input], mount.source, "")
        self._own(new, mount.uid, mount.gid, _cache_mode(mount))
        fs.rename(new, directory)

    def _restored(self, name: str, directory: str, mount: RunMount, note: Callable[[str], None]) -> bool:
        """Put what an imported cache has into *directory*, if that is missing or empty; tell whether that was done."""
        imports = self._scope.imports
        if imports is None or mount.sharing == "private" or not self._is_free(name, directory):
            return False
        for found in imports.mounts(name, mount.id or mount.target):
            from img_core.solver.mount_content import restore  # only where there is something

            new = self._scope.new_path("cache")
            fs.mkdir(new, 0o700)
            if restore(new, found, imports, self._scope):
                self._own(new, mount.uid, mount.gid, _cache_mode(mount))
                ensure_directory(os.path.dirname(directory))
                fs.rename(new, directory)  # over an empty one, at most
                note(f"the cache mount `{fs.show(mount.target)}` was filled from cache {found.source}")
                return True
            fs.remove_tree(new)
        return False

    def _is_free(self, name: str, directory: str) -> bool:
        """Tell whether *directory* is missing, or nobody would miss it: it is empty, meant to have something, and not in use."""
        if name in self._emptied or name in self._opened:
            return False
        with suppress(FileNotFoundError), os.scandir(directory) as entries:
            return next(entries, None) is None and not self._store.others_use_cache_mount(name)
        return True

    def _own(self, directory: str, uid: int, gid: int, mode: int) -> None:
        """Give *directory* an owner and a mode."""
        with fs.opened_directory(directory) as descriptor:
            Owners(self._scope.host.mapping).set_fd(descriptor, uid, gid)
            os.fchmod(descriptor, mode)

    def empty(self, mount: RunMount, inputs: Sequence[Evaluated]) -> bool:
        """Empty a cache mount, once per build; tell whether there was one."""
        name = self._name(mount, inputs)
        with self._emptying:
            if name in self._emptied:
                return False
            self._emptied.add(name)
            directory = self._directory(name)
            with self._store.lock(f"cache-mount-making:{name}", self._scope.cancellation.check):
                if not os.path.isdir(directory):
                    return False
                fs.rename(directory, self._scope.new_path("cache"))  # removed with the run directory
                return True


def _cache_mode(mount: RunMount) -> int:
    return 0o755 if mount.mode is None else mount.mode
