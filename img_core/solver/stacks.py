"""Stacks of layers: what a root file system is made of, be it from here or from caches of others. Values; who turns them into files and
blobs is `solver.layers`, and what brings those of others is `solver.cache_import`."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from img_core.images.digests import chain_ids
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import ArchiveError, Canceled, IntegrityError, NotFoundError, RegistryError
from img_core.spec.source import PinnedTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from img_core.images.contents import ImageContent
    from img_core.spec.cache import CacheBackend, CacheRecord
    from img_core.spec.exporter import LayerForm
    from img_core.spec.values import Descriptor, DiffId
    from img_core.store.records import RecordedLayer
    from img_core.store.snapshots import Snapshot

__all__ = [
    "EMPTY",
    "Evaluated",
    "Imported",
    "Layer",
    "Rejection",
    "RestartError",
    "Stack",
    "image_stack",
    "rejecting",
    "require_layers",
]


@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """A *record* of the cache called *source*, with the *backend* that gives its layers."""

    record: CacheRecord
    source: str
    backend: CacheBackend


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a record cannot be used in this build; without *reason* (its files are needed, and it never had any) nobody has to be told."""

    imported: Imported
    reason: str = ""


class RestartError(Canceled):
    """The build has to evaluate its graph once more, without the records of *rejections* and with imported results of the vertices whose
    digests are in *preferred*; what was done meanwhile is found again."""

    def __init__(self, rejections: Iterable[Rejection] = (), preferred: Iterable[str] = ()) -> None:
        super().__init__("a cached result cannot be used")
        self.rejections = tuple(rejections)
        self.preferred = frozenset(preferred)


class Layer:
    """One layer. A layer of an image knows *descriptor* and *diff_id* and gets a snapshot when needed; one of a step has a snapshot, and
    gets a diff id and blobs, *packed* in one form or another.

    A linked layer (``COPY --link``) knows only its *origin*, the same layer on an empty root, and gets both when needed: its blob is that
    of the origin. *name* is the same wherever one layer is used (see `RecordedLayer`). *fetch* gives the bytes of the blob from one on
    where the store has none. *created* is in seconds since 1970 UTC.
    *remote* tells that *fetch* asks registries: what is known to be in one can stay there.
    """

    __slots__ = (
        "base",
        "created",
        "descriptor",
        "diff_id",
        "fetch",
        "imported",
        "lock",
        "name",
        "origin",
        "packed",
        "recorded",
        "remote",
        "snapshot",
        "step",
    )

    def __init__(
        self,
        *,
        descriptor: Descriptor | None = None,
        diff_id: DiffId | None = None,
        snapshot: Snapshot | None = None,
        fetch: Callable[[int], Iterator[bytes]] | None = None,
        created: float | None = None,
        step: str = "",
        base: bool = False,
        remote: bool = False,
        origin: Layer | None = None,
        name: str = "",
        imported: Imported | None = None,
    ) -> None:
        #: where it comes from, if another build recorded it; one whose record has no layers is only known by name, see `require_layers`
        self.imported: Imported | None = origin.imported if origin else imported
        self.name: str = origin.name if origin else name or diff_id or ""
        self.origin = origin
        self.remote = remote
        self.base = base  #: comes from an image: keeps its bytes
        self.descriptor = descriptor
        self.packed: dict[LayerForm | None, Descriptor] = {}  #: by the form that was asked for; None: any
        self.diff_id = diff_id
        self.snapshot = snapshot
        self.fetch = fetch
        self.created = created
        self.step = step  #: digest of the vertex that shows the work on this layer
        self.recorded: RecordedLayer | None = None  #: what the last record of it says
        self.lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Stack:
    """A root file system: *layers*, lowest first. *identity* stands for its content in cache keys."""

    layers: tuple[Layer, ...]
    identity: str

    @property
    def own(self) -> tuple[Layer, ...]:
        """The layers above the base image."""
        return tuple(layer for layer in self.layers if not layer.base)

    @property
    def base(self) -> str:
        """The chain id of the base image; empty if there is none."""
        chains = chain_ids(layer.diff_id for layer in self.layers if layer.base and layer.diff_id is not None)
        return chains[-1] if chains else ""

    def with_layer(self, layer: Layer, identity: str) -> Stack:
        """Return the stack with one more layer on top."""
        return Stack((*self.layers, layer), identity)

    def with_linked(self, upper: Stack, identity: str) -> Stack:
        """Return the stack with the layers of *upper*, made on an empty root, on top (``COPY --link``); this touches neither of them."""
        linked = (Layer(origin=layer.origin or layer, created=layer.created, step=layer.step) for layer in upper.layers)
        return Stack((*self.layers, *linked), identity)


#: ``FROM scratch``
EMPTY = Stack((), "scratch")

#: What a vertex evaluates to: a root file system, or a tree of files from outside.
Evaluated = Stack | PinnedTree


def image_stack(
    content: ImageContent, *, fetch: Callable[[Descriptor, int], Iterator[bytes]], step: str = "", remote: bool = False
) -> Stack:
    """Return the layers of an image as a stack; *fetch* gives the bytes of those that the store lacks, from one on (see `Layer`)."""
    layers = []
    for descriptor, diff_id in zip(content.layers, content.diff_ids, strict=True):
        get = partial(fetch, descriptor)
        layers.append(Layer(descriptor=descriptor, diff_id=diff_id, fetch=get, step=step, base=True, remote=remote))
    return Stack(tuple(layers), chain_ids(content.diff_ids)[-1] if layers else EMPTY.identity)


def require_layers(stack: Stack) -> None:
    """Raise RestartError if a layer of *stack* is only known by name: its files are needed after all."""
    hollow = [layer.imported for layer in stack.layers if layer.imported and layer.imported.record.layers is None]
    if hollow:
        raise RestartError(map(Rejection, hollow))


@contextmanager
def rejecting(layer: Layer) -> Iterator[None]:
    """Let an imported *layer* that is missing, damaged or not what its record says be a reason to do without that record."""
    try:
        yield
    except (ArchiveError, IntegrityError, NotFoundError, RegistryError) as err:
        if layer.imported is None:
            raise
        raise RestartError([Rejection(layer.imported, err.message)]) from err
