"""A whole solver on real files, with a fake executor whose result is a function of everything that it was given.

Nothing here needs a namespace: snapshots are copies, owners are recorded. `World` is what lies outside of the graph, `Lab` a state
directory.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from img_core.linux.cancellation import Cancellation
from img_core.solver import run as run_module
from img_core.solver.cache_import import Imports
from img_core.solver.events import Events
from img_core.solver.result import open_tree
from img_core.solver.scope import BuildScope, Drivers
from img_core.solver.solver import Solver
from img_core.solver.stacks import Evaluated
from img_core.spec import Host
from img_core.spec.executor import Executor, ExitStatus, Mount, Process
from img_core.spec.exporter import LayerForm
from img_core.spec.frontend import Plan, PlannedImage
from img_core.spec.graph import SourceOp, Vertex
from img_core.spec.source import PinnedTree, TreeSource
from img_core.spec.values import Platform
from img_core.store import Store
from img_core.store.records import Records, StepRecord
from img_core.testing.images import SmallImage, make_image
from img_snapshotter_native._native import NativeSnapshotter

__all__ = ["PLATFORMS", "Lab", "Tree", "World"]

PLATFORMS = (Platform("linux", "amd64"), Platform("linux", "arm64"))
_PROXIES = frozenset({"http_proxy", "no_proxy"})

_NOTHING = Plan(())

Tree = dict[str, str]  #: what is at each path of a root file system, as a text


@dataclass
class World:
    """What a build finds outside: files of contexts and of a web page by path (with mode), versions of images, values of secrets."""

    contexts: dict[str, dict[str, tuple[str, int]]] = field(
        default_factory=lambda: {
            name: {"a": (f"{name} a", 0o644), "d/x": ("x", 0o600), "d/y": ("y", 0o755)} for name in ("context", "other")
        }
    )
    modes: dict[str, int] = field(default_factory=lambda: {"d": 0o755})  #: of directories of the contexts
    web: str = "1"
    images: dict[str, str] = field(default_factory=lambda: {"one": "1", "two": "2"})
    secrets: dict[str, str] = field(default_factory=lambda: {"dev": "1", "prod": "2"})


class _Trees(TreeSource):
    """Contexts, and one tree from elsewhere."""

    name = "local"

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.directory = directory / hashlib.sha256(f"{world.contexts} {world.modes}".encode()).hexdigest()
        if not self.directory.exists():
            self.directory.mkdir()
            for name, files in world.contexts.items():
                _write(self.directory / name, files, world.modes)

    def pin(self, op: SourceOp, platform: Platform | None) -> PinnedTree:
        if op.scheme == "https":
            return PinnedTree(f"https:{op.reference} {self.world.web}")
        return PinnedTree(f"local:{op.reference}", directory=str(self.directory / op.reference))

    def fetch(self, pinned: PinnedTree, directory: str) -> None:
        _write(Path(directory), {"a": (pinned.identity, 0o644), "d/x": ("from the web", 0o644)}, {})


def _write(directory: Path, files: Mapping[str, tuple[str, int]], modes: Mapping[str, int]) -> None:
    directory.mkdir(exist_ok=True)
    for name, (content, mode) in files.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
    for name, mode in modes.items():
        (directory / name).mkdir(exist_ok=True)
        (directory / name).chmod(mode)


@dataclass(frozen=True)
class _Image:
    content: Any  # Any: ImageContent
    remote: bool = False

    def fetch(self, _descriptor: object, _start: int) -> Iterator[bytes]:
        raise AssertionError("all is in the store")


class _Images:
    """Resolves every name to a small image that depends on name, version and platform."""

    def __init__(self, store: Store, world: World) -> None:
        self.store = store
        self.world = world

    def wanted(self, op: SourceOp) -> SourceOp:
        return op

    def resolve(self, reference: str, platform: Platform) -> _Image:
        image = _image(reference, self.world.images[reference], platform)
        for digest, content in image.blobs.items():
            if not self.store.blobs.has(digest):
                self.store.put(content, image.top.media_type if digest == image.top.digest else "text/plain")
        return _Image(next(self.store.images.contents(image.top)))


@lru_cache
def _image(name: str, version: str, platform: Platform) -> SmallImage:
    # The layers do not tell the platform: two images with equal layers are the harder case.
    layers = [{"a": name.encode(), "d/x": b"x"}, {"d/y": version.encode()}]
    return make_image(layers if version != "bare" else layers[:1], platform=platform)


class FakeExecutor(Executor):
    """Writes down everything that it is given, in `/r`, and tries to write into every mount.

    With *key_only* it leaves out what documentedly does not count for the cache (docs/explanation/architecture.md).
    """

    name = "fake"

    def __init__(self, host: Host, *, key_only: bool) -> None:
        super().__init__(host)
        self.key_only = key_only

    def run(self, process: Process, rootfs: Any, io: Any) -> ExitStatus:
        given = {
            "args": process.args,
            "env": [pair for pair in process.env if not (self.key_only and pair[0] in _PROXIES)],
            "cwd": process.cwd,
            "ids": [process.uid, process.gid, process.groups, process.umask],
            "host": [process.hostname, process.network, process.security],
            "limits": [process.shm_size, process.ulimits],
            "mounts": sorted(json.dumps([m.target, m.kind, m.readonly, m.size, m.mode, self._source(m)]) for m in process.mounts),
            "root": tree_of(rootfs.fd),
        }  # fmt: skip
        if self.key_only:
            given = json.loads(re.sub(r"=secret [^\"\\]*", "", json.dumps(given)))
        for mount in process.mounts:
            if not mount.readonly and mount.kind == "bind" and stat.S_ISDIR(os.stat(mount.source_fd).st_mode):
                _write_file(os.open(f"/proc/self/fd/{mount.source_fd}", os.O_RDONLY | os.O_DIRECTORY), "w", b"written")
        text = json.dumps(given, sort_keys=True)
        _write_file(os.dup(rootfs.fd), "r", hashlib.sha256(text.encode()).hexdigest().encode() + b" " + text.encode())
        return ExitStatus(0)

    def _source(self, mount: Mount) -> object:
        if mount.kind != "bind":
            return None
        path = Path(os.readlink(f"/proc/self/fd/{mount.source_fd}"))
        if path.parent.name == "cache-mounts":  # its content is another matter: which one it is counts
            return None if self.key_only else path.name.partition("-")[0]
        if os.path.isdir(path):
            descriptor = os.open(f"/proc/self/fd/{mount.source_fd}", os.O_RDONLY | os.O_DIRECTORY)
            try:
                return [stat.S_IMODE(os.fstat(descriptor).st_mode), tree_of(descriptor)]
            finally:
                os.close(descriptor)
        content = Path(f"/proc/self/fd/{mount.source_fd}").read_text()
        if mount.target == "/etc/hosts" and self.key_only:
            content = " ".join(line.partition("\t")[2] for line in content.splitlines())
        return "" if mount.target == "/etc/resolv.conf" else content


def _write_file(directory_fd: int, name: str, content: bytes) -> None:
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=directory_fd)
    finally:
        os.close(directory_fd)
    os.write(descriptor, content)
    os.close(descriptor)


class _FakeSecrets:
    """Secrets and agents as plain files that tell what they are; the real ones need a mount."""

    values: Mapping[str, str] = {}

    def __init__(self, run_directory: str, *_more: object, **_options: object) -> None:
        self._directory = run_directory

    def read(self, name: str, *, required: bool = False) -> bytes | None:
        return f"{name}=secret {self.values[name]}".encode() if name in self.values else None

    def file(self, opened: ExitStack, data: bytes, **owner: int) -> int:
        path = Path(self._directory, f"secret-{os.urandom(8).hex()}")
        path.write_text(f"{data.decode()} {owner}")
        descriptor = os.open(path, os.O_RDONLY)
        opened.callback(os.close, descriptor)
        return descriptor

    def agent(self, opened: ExitStack, name: str, required: bool, owner: tuple[int, int], mode: int) -> int | None:
        return self.file(opened, f"agent {name}".encode(), uid=owner[0], gid=owner[1], mode=mode)

    def close(self) -> None:
        pass


class _NoRecords(Records):
    """Remembers nothing."""

    def steps(self, key: str) -> list[StepRecord]:
        return []

    def add_step(self, step: StepRecord) -> None:
        pass

    def tree_digest(self, identity: str, files: str) -> str | None:
        return None

    def set_tree_digest(self, identity: str, files: str, digest: str) -> None:
        pass


class Lab:
    """One state directory in which graphs are solved."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        patch.setattr(run_module, "Secrets", _FakeSecrets)
        directory.mkdir()
        self.store = Store(str(directory / "state"), backend="native", mapping="single")
        (directory / "contexts").mkdir()

    @contextmanager
    def solver(
        self,
        world: World,
        plan: Plan = _NOTHING,
        *,
        key_only: bool = False,
        layer_forms: tuple[LayerForm, ...] = (),
        all_layers: bool = False,
        imports: Imports | None = None,
        finished: Callable[[Vertex, bool, float, str], None] = lambda *_: None,
    ) -> Iterator[tuple[Solver, BuildScope]]:
        """Give what solves *plan*, and its scope."""
        assert self.store.run is not None
        _FakeSecrets.values = world.secrets
        trees = _Trees(world, self.directory / "contexts")
        host = Host(mapping="single", state_directory=self.store.state, run_directory=self.store.run.path)
        cancellation = Cancellation()
        drivers = Drivers(NativeSnapshotter(host), lambda: FakeExecutor(host, key_only=key_only), lambda _scheme: trees)
        try:
            scope = BuildScope(
                host=host,
                host_platform=PLATFORMS[0],
                store=self.store,
                drivers=drivers,
                resolver=_Images(self.store, world),  # type: ignore[arg-type]  # as far as the solver asks
                events=Events(),
                cancellation=cancellation,
                plan=plan,
                layer_forms=layer_forms,
                all_layers=all_layers,
                imports=imports,
            )
            with Solver(scope, finished=finished) as solver:
                yield solver, scope
        finally:
            cancellation.close()

    def build(self, roots: Sequence[Vertex], world: World, *, key_only: bool = False) -> list[Tree]:
        """Solve one graph as a build does; return the files of each of *roots*."""
        plan = Plan(tuple(PlannedImage(PLATFORMS[0], root, {}, ()) for root in roots))
        with self.solver(world, plan, key_only=key_only) as (solver, _):
            outcome = solver.solve()
            trees = []
            for image in outcome.images:
                with image.tree() as tree:
                    trees.append(tree_of(tree.fd))
            return trees

    def naive(self, roots: Sequence[Vertex], world: World, *, key_only: bool = False) -> list[Tree]:
        """Evaluate each of *roots* by itself, each vertex as often as something needs it, with a solver of its own and no memory."""
        self.store.records = _NoRecords(self.store.database, "native", "single")
        return [self._files_of(root, world, key_only=key_only) for root in roots]

    def _files_of(self, root: Vertex, world: World, *, key_only: bool) -> Tree:
        with self.solver(world, key_only=key_only) as (_, scope):
            stack = self._evaluate(root, world, key_only=key_only)
            assert not isinstance(stack, PinnedTree)
            with open_tree(scope, stack) as tree:
                return tree_of(tree.fd)

    def _evaluate(self, vertex: Vertex, world: World, *, key_only: bool) -> Evaluated:
        inputs = [self._evaluate(item, world, key_only=key_only) for item in vertex.inputs]
        with self.solver(world, key_only=key_only) as (solver, _):
            return solver.evaluate(vertex, inputs)

    def clear(self) -> None:
        """Start anew: nothing is cached."""
        with self.store.database.transaction() as cursor:
            for table in ("step", "tree_digest", "file_digest"):
                cursor.execute(f"DELETE FROM {table}")  # our own words

    def forget(self, number: int) -> None:
        """Lose the record of one step, as if it had been collected."""
        rows = self.store.database.query("SELECT stack FROM step ORDER BY key, definition")
        if rows:
            with self.store.database.transaction() as cursor:
                cursor.execute("DELETE FROM step WHERE stack = ?", (rows[number % len(rows)]["stack"],))

    def close(self) -> None:
        self.store.close()


def tree_of(directory_fd: int) -> Tree:
    """Return what is below a directory: kind, mode, owner (recorded or real) and content of each path; mount points aside."""
    found: Tree = {}
    for path, directories, names, fd in os.fwalk(".", dir_fd=directory_fd):
        for name in (*directories, *names):
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd)
            try:
                names_ = os.listxattr(opened)
                real = f"{info.st_uid}:{info.st_gid}"
                owner = os.getxattr(opened, "user.img.owner").decode() if "user.img.owner" in names_ else real
                content = "" if stat.S_ISDIR(info.st_mode) else os.read(opened, 1 << 20).decode()
            finally:
                os.close(opened)
            found[os.path.normpath(f"{path}/{name}")] = f"{info.st_mode:o} {owner} {content}"
    return found
