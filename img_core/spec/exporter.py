"""Exporters: write a finished build somewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Protocol

from img_core.spec.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from img_core.spec.host import Host
    from img_core.spec.values import Descriptor, DiffId, Digest, Platform

__all__ = [
    "Attestation",
    "BuiltImage",
    "BuiltLayer",
    "ExportProgress",
    "Exporter",
    "ImageStore",
    "LayerForm",
    "NamedImage",
    "Result",
    "Tree",
    "Writable",
]


@dataclass(frozen=True, slots=True)
class LayerForm:
    """How a layer that a build makes is packed: *compression* is ``gzip``, ``zstd`` or ``uncompressed``; *level* None: its default level.

    Media types are no part of it: OCI's and Docker's names for one form mean the same bytes, and whoever writes a manifest chooses.
    """

    compression: str = "gzip"
    level: int | None = None


@dataclass(frozen=True, slots=True)
class BuiltLayer:
    """One layer of a result: the stored blob and the diff id of its content. *created* is an RFC 3339 time.

    *base* marks a layer of the base image: it keeps its bytes unless the user forces another compression. *form* is the one that the
    exporter asked for, if the layer was packed so for it (see `Exporter.layer_form`).
    """

    descriptor: Descriptor
    diff_id: DiffId
    created: str
    base: bool = False
    form: LayerForm | None = None


@dataclass(frozen=True, slots=True)
class Attestation:
    """What somebody states about an image: an in-toto statement whose subject, the image, is filled in by who writes the image.

    *predicate_type* is a URI, e.g. ``https://spdx.dev/Document``; *predicate* is JSON (in-toto attestation framework, statement layer v1).
    """

    predicate_type: str
    predicate: Mapping[str, Any]  # Any: JSON


class Tree(Protocol):
    """The merged root file system of an image, read-only. Valid inside the ``with`` block that gave it."""

    @property
    def fd(self) -> int:
        """A directory to open from and to stat, of ``O_PATH`` where the tree is a mount: to read it, open ``.`` with it as *dir_fd*."""

    def owner(self, path: bytes) -> tuple[int, int] | None:
        """Return the owner of *path* that is noted beside the tree, or None; `img_core.files.treewalk.look_of` knows what else tells it."""


class Writable(Protocol):
    """Where an archive goes."""

    def write(self, data: bytes, /) -> object:
        """Take all of *data*."""


class BuiltImage(Protocol):
    """One image of a result."""

    @property
    def platform(self) -> Platform:
        """What it was built for."""

    def config(self) -> Mapping[str, Any]:
        """Return the finished OCI image config. Waits until all layers are written."""

    def layers(self) -> Sequence[BuiltLayer]:
        """Return the layers, lowest first, as stored. Waits until all are written.

        Those of the base image keep the registry's bytes, others have the form that the exporter asked for.
        """

    def tree(self) -> AbstractContextManager[Tree]:
        """Open the merged root file system."""

    @property
    def attestations(self) -> Sequence[Attestation]:
        """What listeners state about it (`img_image_built`): exporters of images attach it, others leave it out."""


class ImageStore(Protocol):
    """The part of the store that exporters may use."""

    def put(self, data: bytes, media_type: str, *, digest: Digest | None = None) -> Descriptor:
        """Keep a small document (manifest, config, index), under its sha256 digest or *digest*. Raises IntegrityError if that differs."""

    def ingest(
        self, chunks: Iterable[bytes], media_type: str, *, digest: Digest | None = None, size: int | None = None
    ) -> Descriptor:
        """Keep a blob of any size as it arrives (a layer that was compressed anew, a member of a bundle).

        Raises IntegrityError when *digest* or *size* is given and differs; then, and when *chunks* raises, nothing is kept.
        """

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob for reading. Raises NotFoundError."""

    def read(self, digest: Digest) -> bytes:
        """Return a small document, verified against its digest."""

    def chunks(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Give a blob's bytes, verified while they pass. Raises IntegrityError at the end when they are damaged."""

    def origins(self, digest: Digest) -> Sequence[str]:
        """Return the repositories (``domain/path``) that are known to have a blob: it was pulled from there."""

    def remember_origins(self, digests: Iterable[Digest], repository: str) -> None:
        """Note that *repository* (``domain/path``) has the blobs *digests*."""

    def tag(self, name: str, descriptor: Descriptor) -> None:
        """Let *name* (normalised, with tag) mean *descriptor*; what it references must be in the store, or be a layer with `origins`.

        Atomic. Raises UsageError for a name with a digest that is not its own.
        """

    def keep(self, descriptor: Descriptor) -> None:
        """Keep an image without a name, unless it has one; people find it by its digest. Otherwise like `tag`."""


class Result(Protocol):
    """A finished build."""

    @property
    def images(self) -> Sequence[BuiltImage]:
        """One image per platform, in the order of the request."""

    @property
    def names(self) -> Sequence[str]:
        """The normalised image names asked for with ``-t``."""

    @property
    def store(self) -> ImageStore:
        """Where the layers are and documents go."""

    @property
    def source_date_epoch(self) -> int | None:
        """The latest time, in seconds since 1970, if the build fixes it."""

    @property
    def multi_platform(self) -> bool:
        """The result is an index (a directory per platform): there are several images, or the build asked for it with one."""


@dataclass(frozen=True, slots=True)
class NamedImage:
    """An image of the store (a manifest or an index) and the normalised *names* it shall have; *created* is an RFC 3339 time."""

    descriptor: Descriptor
    names: tuple[str, ...] = ()
    created: str | None = None


class ExportProgress(Protocol):
    """Tells people what an exporter does; each call is one line such as ``exporting layers``.

    A call raises Canceled when the build must stop: exporters report often while they move many bytes, and clean up behind it.
    """

    def status(
        self, text: str, *, current: int = 0, total: int = 0, finished: bool | None = None, outcome: str = ""
    ) -> None:
        """Show *text*; *current* and *total* are bytes (0: unknown) and *outcome* that of a transfer (see `StepStatus`).

        Without *finished* the work is done when *current* has reached *total*.
        """

    def check(self) -> None:
        """Raise Canceled when the build must stop; show nothing. For who waits long without anything to tell."""


class Exporter(ABC):
    """Writes a finished build result somewhere, e.g. for ``-o type=tar,dest=out.tar``.

    One object serves one ``-o``. The constructor gets the options after they were checked and converted by `schema`; it raises UsageError
    for what a schema cannot express and does no I/O. `export` is called at most once and leaves a complete result or nothing: write
    beside the destination, then rename.
    """

    name: ClassVar[str]  #: the word after ``type=``
    api: ClassVar[tuple[int, int]] = (1, 1)
    schema: ClassVar[Mapping[str, Any] | None] = None  #: JSON Schema of the options; Any: JSON
    #: asks for layer blobs: they are then written beside the steps; false for trees of files
    needs_layers: ClassVar[bool] = True
    #: keeps or pushes the image under its names: with ``-t`` nothing else has to
    names_image: ClassVar[bool] = False
    #: writes images of the store as one archive, too (`save`)
    saves: ClassVar[bool] = False
    #: how it wants the layers that the build makes; a constructor may set it from the options. They are packed so once, beside the steps
    layer_form: LayerForm = LayerForm()
    #: reads the blobs of base layers; if not, those that no step needed are not fetched, and `ImageStore.origins` tells where they are
    needs_base_blobs: bool = True
    #: pushes the image under its names, and of a layer of a step that a registry of theirs has in another repository it needs no bytes
    mounts_layers: bool = False

    def __init__(self, host: Host, options: Mapping[str, Any]) -> None:
        self.host = host
        self.options = dict(options)

    @classmethod
    def probe(cls, host: Host) -> None:
        """Raise Unsupported with the reason if it cannot work here."""

    def check(self) -> None:
        """Look at the destination before the build begins, e.g. refuse a terminal. Raises UsageError; changes nothing."""

    def save(
        self, images: Sequence[NamedImage], store: ImageStore, output: Writable, tick: Callable[[int], None]
    ) -> None:
        """Write *images* of *store* to *output* as one archive (``img save``); *tick* hears now and then how many bytes are written.

        What is written is incomplete when it raises. Raises NotFoundError if the store lacks a part of an image, IntegrityError for a
        damaged blob. Only called where `saves` is set.
        """
        raise NotImplementedError

    @abstractmethod
    def export(self, result: Result, progress: ExportProgress) -> Mapping[str, Any]:
        """Write *result*; return metadata (``containerimage.digest``…). Raises ImgError for what the user can fix."""
