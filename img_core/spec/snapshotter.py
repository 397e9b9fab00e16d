"""Snapshotters: root file systems made of stacked directories."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from img_core.spec.dataclass import dataclass

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    from img_core.spec.host import Host
    from img_core.spec.values import DiffId, Digest

__all__ = ["Applied", "Changes", "LayerStream", "Rootfs", "Snapshotter"]


class Rootfs(Protocol):
    """A root file system in use. *fd* is a directory descriptor (often of a detached mount); valid until `close`."""

    fd: int

    def close(self) -> None:
        """Give the mount back; the directory stays."""


class Changes(Protocol):
    """The difference between a snapshot and its parents.

    Iterating gives ``(path, stat)`` with *path* relative (bytes, no leading slash), sorted so that a directory comes right before its
    content; *stat* is the lstat result, or None where the path was deleted. Parent directories of changes are included. *root_fd* is a
    directory descriptor beneath which the paths can be opened. A replaced directory appears with one deletion per vanished child.
    """

    root_fd: int

    def __iter__(self) -> Iterator[tuple[bytes, os.stat_result | None]]: ...

    def owner(self, path: bytes) -> tuple[int, int] | None:
        """Return the recorded owner of an entry that cannot carry the attribute ``user.img.owner``, or None."""

    def close(self) -> None:
        """Release *root_fd*."""


@dataclass(frozen=True, slots=True)
class LayerStream:
    """A layer as it arrives: *chunks* of the stored form, to be checked against *digest*, *size* and (if known) *diff_id*.

    *file* is where all of it lies once *chunks* were read, in a file that nobody changes and that may go at any time later; empty: nowhere.
    """

    chunks: Iterable[bytes]
    media_type: str
    digest: Digest
    size: int
    diff_id: DiffId | None = None
    file: str = ""


@dataclass(frozen=True, slots=True)
class Applied:
    """What unpacking a layer found: *diff_id* of the stream, *size* of the unpacked files in bytes, and entries that were left out."""

    diff_id: DiffId
    size: int
    skipped: tuple[str, ...] = field(default=())


class Snapshotter(ABC):
    """Keeps snapshots: directories that hold one layer (overlay) or a whole tree (copy).

    The core owns names, parents and life times; a snapshotter only works on the directories it is given and is the only one to know their
    inside. A directory passed to `prepare` or `apply` does not exist yet; until the core renames it into place it may vanish at any time.
    Afterwards the core writes nothing into it, and what it shows stays the same; a driver may keep that in another form, as several
    processes use it. *parents* are directories of finished snapshots, lowest first. All methods may be called from
    several threads at once. On failure they leave nothing behind but the given directory, which the core removes.
    """

    name: ClassVar[str]  #: the word that selects it
    format: ClassVar[str] = (
        ""  #: its directory name in the state; drivers of one format share snapshots (empty: *name*)
    )
    api: ClassVar[tuple[int, int]] = (1, 1)
    schema: ClassVar[Mapping[str, Any] | None] = None  #: JSON Schema of its options; Any: JSON
    independent_layers: ClassVar[bool] = (
        True  #: `apply` does not look at *parents*: layers may be unpacked in any order
    )

    #: only the kernel decides about `probe`: where it passed, the core does not call it again before the next boot
    probe_lasts: ClassVar[bool] = False

    def __init__(self, host: Host, options: Mapping[str, Any] | None = None) -> None:
        self.host = host
        self.options = dict(options or {})

    @classmethod
    def probe(cls, host: Host) -> None:
        """Raise Unsupported with the reason if it cannot work here (tried, not guessed; leaves nothing behind)."""

    @abstractmethod
    def prepare(self, directory: str, parents: Sequence[str], *, mount_points: bool = False) -> Rootfs:
        """Make *directory* a new snapshot on *parents* and return its writable root file system.

        *mount_points* is for a root that an executor will run in: the places where it mounts (``/proc``, ``/etc/hosts`` …) may then
        exist although no layer has them, if that leaves no trace in `changes`. File operations leave it off.
        """

    @abstractmethod
    def view(self, parents: Sequence[str]) -> Rootfs:
        """Return the merged, read-only root file system of *parents* (an empty one for no parents)."""

    @abstractmethod
    def apply(self, directory: str, parents: Sequence[str], layer: LayerStream) -> Applied:
        """Make *directory* a snapshot that holds *layer* on *parents*.

        Raises IntegrityError when digest, size or diff id differ, ArchiveError for a bad archive.
        """

    @abstractmethod
    def changes(self, directory: str, parents: Sequence[str]) -> Changes:
        """Return what *directory* changes compared with *parents*. Close it after use."""

    def packed(self, directory: str, parents: Sequence[str]) -> LayerStream | None:
        """Return the layer that *directory* holds on *parents*, if it is kept as one, with its diff id; None: make it of `changes`.

        It has the bytes that `img_core.archives.tar.write_layer` makes of `changes`, compressed or not.
        """
        return None

    @abstractmethod
    def record_owners(self, directory: str, owners: Mapping[bytes, tuple[int, int]]) -> None:
        """Keep the wanted *owners* (path to ids) of entries that cannot carry ``user.img.owner``; called before the rename."""

    @abstractmethod
    def owners(self, parents: Sequence[str]) -> Mapping[bytes, tuple[int, int]]:
        """Return the kept owners that hold for the merged tree of *parents* (empty unless the mapping is ``single``)."""

    @abstractmethod
    def usage(self, directory: str) -> int:
        """Return the bytes that *directory* itself occupies."""

    @abstractmethod
    def remove(self, directory: str) -> None:
        """Remove *directory*, finished or half-made."""
