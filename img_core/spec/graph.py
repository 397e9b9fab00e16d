"""The build graph: what a frontend plans and the solver runs.

A graph is a tree of frozen `Vertex` values that share sub-trees. A vertex's `digest`, its *identity*, covers everything that can affect
what it does, and nothing about how it is shown: two stages with the same first steps therefore hold equal vertices, which run once, and
no other vertices share a run. The *cache key* decides whether a step has to run again; it leaves out what BuildKit leaves out.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import Field, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from img_core.spec.dataclass import dataclass
from img_core.spec.source_op import CONTEXT_SCHEME, IMAGE_SCHEME, SourceOp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from img_core.spec.values import Platform

__all__ = [
    "CONTEXT_SCHEME",
    "IMAGE_SCHEME",
    "Copy",
    "FileAction",
    "FileOp",
    "Location",
    "MakeDirectory",
    "MergeOp",
    "Op",
    "RunAddition",
    "RunMount",
    "RunOp",
    "SourceOp",
    "Vertex",
    "WriteFile",
]

#: Marks a field that can change what a step does, but not whether it runs again: it is in the identity and not in the cache key.
NOT_IN_KEY = {"in_key": lambda _owner: False}
#: Marks a field of a mount that is in the cache key where it names a secret or an agent, and not where it names a cache.
NOT_IN_KEY_OF_CACHES = {"in_key": lambda mount: mount.type != "cache"}
#: Marks a field that came after steps were recorded: where it is not set, identity and key are what they were. One a class, the last.
ONLY_WHERE_SET = {"only_where_set": True}


@dataclass(frozen=True, slots=True)
class Location:
    """Where an instruction stands: file name as shown to people, first and last line counted from 1."""

    file: str
    first_line: int
    last_line: int


@dataclass(frozen=True, slots=True)
class RunMount:
    """One ``RUN --mount``. *target* is absolute and clean.

    ``bind`` and seeded ``cache`` mounts read ``Vertex.inputs[input]`` at *source* (a path inside that input).
    *size* is in bytes (tmpfs); *env* is the variable that carries a secret. *options* are for the executor, see `RunOp`.
    """

    type: str  #: bind, cache, tmpfs, secret or ssh
    target: str
    input: int | None = None
    source: str = ""
    readonly: bool = True
    id: str = field(default="", metadata=NOT_IN_KEY_OF_CACHES)
    sharing: str = field(default="shared", metadata=NOT_IN_KEY)
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size: int = 0
    required: bool = False
    env: str = ""
    options: tuple[tuple[str, str], ...] = field(default=(), metadata=ONLY_WHERE_SET)


@dataclass(frozen=True, slots=True)
class RunOp:
    """Run one process in the root file system ``Vertex.inputs[0]`` (None of the inputs when *has_base* is false: an empty root).

    *args* is the final argument vector, *env* the final environment in order, without HOME unless ENV or ARG set it (the solver adds
    HOME from the passwd file). *user* is the text of USER. *proxy_env* reaches the process but not the key. *options*, names and values,
    are between a frontend and an executor: they go to one that `understands` them, and nobody between has to know what they mean.
    """

    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = "/"
    user: str = ""
    has_base: bool = True
    network: str = "default"  #: default, none or host
    security: str = "sandbox"  #: sandbox or insecure
    hostname: str = "buildkitsandbox"
    mounts: tuple[RunMount, ...] = ()
    extra_hosts: tuple[str, ...] = ()  #: names only; addresses are in *extra_host_addresses*
    extra_host_addresses: tuple[str, ...] = field(default=(), metadata=NOT_IN_KEY)
    shm_size: int = 0  #: bytes; 0 means the default of 64 MiB
    ulimits: tuple[tuple[str, int, int], ...] = ()
    proxy_env: tuple[tuple[str, str], ...] = field(default=(), metadata=NOT_IN_KEY)
    options: tuple[tuple[str, str], ...] = field(default=(), metadata=ONLY_WHERE_SET)


@dataclass(frozen=True, slots=True)
class RunAddition:
    """What a listener adds to a `RunOp` (`img_run_planned`). Of a variable that the step sets itself, that value stays.

    *mounts* are of the types that read no input: cache, tmpfs, secret and ssh.
    """

    env: tuple[tuple[str, str], ...] = ()
    mounts: tuple[RunMount, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy *sources* of ``Vertex.inputs[input]`` to *destination* (docs/reference/dockerfile-cases.md, CP).

    *destination* is absolute; a trailing ``/`` is kept and means "a directory". *owner* is the text of ``--chown`` (empty: 0:0),
    *mode* the text of ``--chmod`` (octal or symbolic, empty: keep). *unpack* is true for ADD of local archives.
    *input* None copies from an empty root. *checksum* is that of ``--checksum``.
    """

    input: int | None
    sources: tuple[str, ...]
    destination: str
    owner: str = ""
    mode: str = ""
    exclude: tuple[str, ...] = ()
    parents: bool = False
    unpack: bool = False
    add: bool = False  #: ADD and COPY never share a cache record
    checksum: str = ""
    keep_git_directory: bool = False


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """WORKDIR: make *path* (absolute) and its missing parents with *mode*, owned by *owner* (text of USER, empty: 0:0)."""

    path: str
    mode: int = 0o755
    owner: str = ""


@dataclass(frozen=True, slots=True)
class WriteFile:
    """A heredoc source: a regular file *name* with *content*, placed as `Copy` would place it."""

    name: str
    content: bytes
    destination: str
    owner: str = ""
    mode: str = ""


FileAction = Copy | MakeDirectory | WriteFile


@dataclass(frozen=True, slots=True)
class FileOp:
    """Change files of ``Vertex.inputs[0]`` (of an empty root if *has_base* is false) by *actions*, in order; makes one layer."""

    actions: tuple[FileAction, ...]
    has_base: bool = True


@dataclass(frozen=True, slots=True)
class MergeOp:
    """Stack the layers of ``inputs[1]`` (made on an empty root) on ``inputs[0]``: ``COPY --link``."""


Op = SourceOp | RunOp | FileOp | MergeOp


@dataclass(frozen=True, slots=True, eq=False)
class Vertex:
    """One step. *op*, *inputs*, *platform* and *use_cache* make up its identity, `digest`; the rest is for people.

    *name* is the text of progress output, e.g. ``[build 2/4] RUN make``. With *use_cache* false the step runs even if a record exists
    (a source has no record, so this says nothing about it). *hint* goes with errors of the step.
    """

    op: Op
    inputs: tuple[Vertex, ...] = ()
    platform: Platform | None = None
    name: str = ""
    location: Location | None = None
    use_cache: bool = True
    hint: str = ""
    digest: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        anew = not self.use_cache and not isinstance(self.op, SourceOp)
        inputs = [vertex.digest for vertex in self.inputs]
        canonical = [canonical_value(self.op), canonical_value(self.platform), anew, inputs]
        text = json.dumps(canonical, ensure_ascii=True, separators=(",", ":"))
        object.__setattr__(self, "digest", "sha256:" + hashlib.sha256(text.encode()).hexdigest())


def inputs_first(roots: Iterable[Vertex]) -> Iterator[Vertex]:
    """Give each vertex below *roots* once, after its inputs."""
    seen: set[str] = set()
    pending = [(root, False) for root in roots][::-1]  # no recursion: Dockerfiles may be longer than Python's limit
    while pending:
        vertex, inputs_given = pending.pop()
        if inputs_given:
            yield vertex
        elif vertex.digest not in seen:
            seen.add(vertex.digest)
            pending.append((vertex, True))
            pending.extend((item, False) for item in reversed(vertex.inputs))


def canonical_value(value: Any, *, key: bool = False) -> Any:  # Any: JSON has no useful static type
    """Return *value* as JSON types that equal values share: dataclasses become ``[class name, fields…]``.

    With *key*, fields that do not belong in a cache key are left out.
    """
    if is_dataclass(value) and not isinstance(value, type):
        counted = (item.name for item in fields(value) if not item.metadata or _counts(item, value, key=key))
        return [type(value).__name__, *(canonical_value(getattr(value, name), key=key) for name in counted)]
    if isinstance(value, tuple):
        return [canonical_value(item, key=key) for item in value]
    if isinstance(value, bytes):
        return ["bytes", hashlib.sha256(value).hexdigest()]
    return value


def _counts(item: Field[Any], owner: Any, *, key: bool) -> bool:
    if "only_where_set" in item.metadata:
        return bool(getattr(owner, item.name))
    return not key or bool(item.metadata["in_key"](owner))
