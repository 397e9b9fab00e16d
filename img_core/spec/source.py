"""Sources: images and files from outside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.spec.dataclass import dataclass
from img_core.spec.errors import IntegrityError
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.spec.host import Host
    from img_core.spec.progress import TransferStatus
    from img_core.spec.source_op import SourceOp
    from img_core.spec.values import Descriptor, Digest, Platform

__all__ = ["ImageSource", "PinnedImage", "PinnedTree", "Source", "SourceContext", "TreeSource"]


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What a source may use while it works.

    *contexts* maps the names of local build contexts to directories, *ignore_files* to the files that say what
    is hidden in them; in others it is the first that is there of *ignore_names*.
    *insecure* lists the registries for which plain HTTP or
    unverified TLS was asked; ``*`` means all; it is about nothing else than registries. *secrets* gives the content of a secret of this
    build by its id; only for logging in where the files come from, and only to the origin that the id names. *named* are the addresses
    that the user himself gave; a secret whose id names no origin is for theirs. *agents* maps ids of ssh agents to their sockets: with
    one, and nothing else of the user, ssh may be used. With *own_ssh* the user himself named what is fetched, and his ssh serves as at
    his shell. With *reproducible* (``SOURCE_DATE_EPOCH`` is set) the times of files come from their origin, never from the clock.
    *cancel_fd*, if not -1, becomes readable when the build must stop: whoever waits long watches it. *status* hears of downloads that
    the caller does not see, under a text such as ``downloading https://…``; it is called in the thread that called the source. *seen*
    tells whether an image reference was resolved before; *document* gives a verified manifest, index or config that is kept here: it
    needs not be fetched again. With *offline* no socket is opened: what is not known here raises NotFoundError that names it.
    """

    host: Host
    contexts: Mapping[str, str] = field(default_factory=dict)
    ignore_files: Mapping[str, str] = field(default_factory=dict)
    ignore_names: tuple[str, ...] = ()
    insecure: frozenset[str] = frozenset()
    secrets: Callable[[str], bytes | None] = lambda _name: None
    named: tuple[str, ...] = ()
    agents: Mapping[str, str] = field(default_factory=dict)
    own_ssh: bool = False
    reproducible: bool = False
    cancel_fd: int = -1
    status: TransferStatus = lambda *_news: None
    seen: Callable[[str], bool] = lambda _reference: False
    document: Callable[[Digest], bytes | None] = lambda _digest: None
    offline: bool = False

    def check(self) -> None:
        """Raise Canceled when the build must stop."""
        if self.cancel_fd >= 0:
            import select

            if select.select([self.cancel_fd], [], [], 0)[0]:
                from img_core.spec.errors import Canceled

                raise Canceled


@dataclass(frozen=True, slots=True)
class PinnedImage:
    """An image resolved to exact bytes. *documents* holds manifest and config (and the index, if there was one) by digest."""

    reference: str  #: as asked, normalised
    top: Descriptor  #: what the tag named: an index or a manifest
    manifest: Descriptor  #: of the chosen platform
    config: Descriptor
    layers: tuple[Descriptor, ...]
    documents: Mapping[Digest, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class PinnedTree:
    """A directory tree resolved as far as its kind allows; *identity* (``<scheme>:<text>``) names its exact content.

    Trees of one identity are equal: what was computed from one of them is remembered, and it is fetched only when a step needs it.

    *directory* is its place on this machine, if it is there already (a local context is used where it is).
    *ignore* is the text of the ignore file that filters it, or None, and *ignore_name* what that file is called, or would be.
    """

    identity: str
    directory: str | None = None
    ignore: str | None = None
    ignore_name: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)  # Any: private to the source


class Source(ABC):
    """Gets things from outside, in two steps: `pin` names them exactly, a second call fetches them if they are really needed.

    One object serves one build; methods are called from several threads at once.
    """

    name: ClassVar[str]  #: the scheme it serves (``docker-image``, ``local``)
    api: ClassVar[tuple[int, int]] = (1, 1)
    schema: ClassVar[Mapping[str, Any] | None] = None  #: JSON Schema of its options; Any: JSON
    makes_image: ClassVar[bool] = False  #: gives images, which are stacks of layers, not directory trees
    names_files: ClassVar[bool] = False  #: can fetch one file, as what the option ``filename`` says
    is_remote: ClassVar[bool] = (
        False  #: what it names is elsewhere and may change; then it has `pin_of` and `pinned_to`
    )
    waits: ClassVar[bool] = (
        True  #: its methods may wait for others, and `close` has to end that when the build is canceled
    )

    @classmethod
    def claims(cls, address: str) -> str | None:
        """Return the reference (`SourceOp.reference`) that *address* means to this source; None if it is not for this source.

        *address* is what a user wrote for a build context. Looks at the text only; no two sources should claim the same.
        """
        return None

    @classmethod
    def pinned_to(cls, op: SourceOp, pin: str) -> SourceOp:
        """Return *op* so that it means the content *pin* (as in a lock file) and no other, whatever its name means by now.

        Raises IntegrityError if *op* itself names other content. What *pin* is: of an image the digest of its manifest or index.
        """
        raise NotImplementedError

    def __init__(self, context: SourceContext, options: Mapping[str, Any] | None = None) -> None:
        self.context = context
        self.options = dict(options or {})

    def close(self) -> None:
        """Drop connections; calls that wait for one in other threads raise Canceled."""


class ImageSource(Source):
    """A source of images."""

    makes_image: ClassVar[bool] = True

    @classmethod
    def pinned_to(cls, op: SourceOp, pin: str) -> SourceOp:
        """Add the digest *pin* to the reference."""
        name, _, own = op.reference.partition("@")
        if own not in ("", pin):
            raise IntegrityError(f"`{op.identifier}` names another digest than `{show(pin)}`, which is locked")
        return replace(op, reference=f"{name}@{pin}")

    @abstractmethod
    def pin(self, op: SourceOp, platform: Platform | None) -> PinnedImage:
        """Resolve the image for *platform* (None: whatever single image the reference names, else the host's).

        Raises NotFoundError, RegistryError, CredentialsError, IntegrityError; every document in the result is verified.
        """

    @abstractmethod
    def blob(self, pinned: PinnedImage, descriptor: Descriptor) -> Iterator[bytes]:
        """Give the bytes of a layer as they arrive. The caller verifies size and digest and stops reading when they are exceeded."""

    def blob_from(self, pinned: PinnedImage, descriptor: Descriptor, start: int) -> Iterator[bytes]:
        """Like `blob`, from byte *start* on: continues a transfer that was cut. By default what comes before is fetched and dropped."""
        position = 0
        for chunk in self.blob(pinned, descriptor):
            position += len(chunk)
            if position > start:
                yield chunk[max(0, len(chunk) - (position - start)) :]


class TreeSource(Source):
    """A source of directory trees."""

    @abstractmethod
    def pin(self, op: SourceOp, platform: Platform | None) -> PinnedTree:
        """Resolve the tree as far as possible without fetching it."""

    def pin_of(self, pinned: PinnedTree) -> str:
        """Return what names the content of *pinned* exactly, for `pinned_to`."""
        raise NotImplementedError

    def fetch(self, pinned: PinnedTree, directory: str) -> None:
        """Put the tree into the existing empty *directory*; only called when `PinnedTree.directory` is None."""
        raise NotImplementedError

    def modified(self, pinned: PinnedTree) -> int | None:
        """Return when the tree was made as its origin tells, in seconds since 1970 UTC, or None if that has no meaning.

        May fetch what tells it. A directory of this machine has none: its files come and go.
        """
        return None
