"""Cache backends: build results shared between machines (``--cache-from``, ``--cache-to``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.spec.dataclass import dataclass
from img_core.spec.exporter import LayerForm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from img_core.spec.exporter import BuiltImage, ExportProgress, ImageStore
    from img_core.spec.host import Host
    from img_core.spec.registry import Registries
    from img_core.spec.values import Descriptor, DiffId, Digest

__all__ = [
    "CACHE_MOUNT",
    "CacheBackend",
    "CacheContext",
    "CacheLayer",
    "CacheLoad",
    "CachePruned",
    "CacheRecord",
    "CacheReport",
]

CACHE_MOUNT = "cache mount"  #: see `CacheRecord`


@dataclass(frozen=True, slots=True)
class CacheLayer:
    """One layer of a recorded result: its blob and the diff id of its content; *created* in seconds since 1970 UTC."""

    descriptor: Descriptor
    diff_id: DiffId
    created: float


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """One finished step: under *key* a build with the same inputs finds it, on any machine.

    *definition* tells steps of one key apart that differ in what is not in the key; *identity* stands for the result in the keys of what
    builds on it. *base* is the chain id of the base image (empty for scratch) and *layers* all that is above it, lowest first: a complete
    stack, never to be mixed with that of another record. Without *layers* only the identity is known, and that much answers keys.

    A record without *definition* is of no step: it tells *trees* of the image or the files whose identity is the *key*. Neither is one
    whose *definition* is `CACHE_MOUNT`: its one layer is the content of the cache mount (``RUN --mount=type=cache``) that the *key* names.

    *trees* has the digests of parts of the result that other steps copied, by digests of how they were chosen; *inputs* the parts of the
    key by name, for people (hashes, never values). *created* and *last* (made, last used) are in seconds since 1970 UTC, *seconds* is how
    long the work took.
    """

    key: str
    definition: str
    identity: str
    base: str = ""
    layers: tuple[CacheLayer, ...] | None = None
    created: float = 0.0
    last: float = 0.0
    seconds: float = 0.0
    platform: str = ""
    description: str = ""
    inputs: tuple[tuple[str, str], ...] = ()
    trees: tuple[tuple[str, str], ...] = ()

    @property
    def is_mount(self) -> bool:
        """Whether this is the content of a cache mount."""
        return self.definition == CACHE_MOUNT


@dataclass(frozen=True, slots=True)
class CacheLoad:
    """What a source had: *records*, and one line for each thing in it that could not be used (damaged, unsigned, of a later format)."""

    records: tuple[CacheRecord, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CacheReport:
    """What `CacheBackend.save` did: the *digest* of what was written (None: nothing had to be), how many records were *new*, how many of
    other writers are *kept* beside them, and one line for each thing that went wrong without harm."""

    digest: Digest | None = None
    new: int = 0
    kept: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CachePruned:
    """What `CacheBackend.prune` did, or would do: the records that go and those that stay, and what went wrong without harm."""

    removed: tuple[CacheRecord, ...] = ()
    kept: tuple[CacheRecord, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CacheContext:
    """What a backend may use: the *host*, the state's *store* of blobs, and *registries* with our credentials."""

    host: Host
    store: ImageStore
    registries: Registries
    insecure: frozenset[str] = frozenset()  #: registries without verified TLS, see `RegistryContext`
    now: float = field(default=0.0)  #: when the build began, in seconds since 1970 UTC


class CacheBackend(ABC):
    """One place that holds records, e.g. for ``--cache-from type=registry,ref=…`` or ``--cache-to type=local,dest=…``.

    One object serves one such option; its constructor checks the options (UsageError) and does no I/O. A source that is missing, damaged or
    lying is a warning of the caller and never fails a build; a failed `save` is an error unless the option ``ignore-error`` says otherwise
    (`ignores_errors`; the caller heeds it).
    """

    name: ClassVar[str]  #: the word after ``type=``
    api: ClassVar[tuple[int, int]] = (1, 1)
    schema: ClassVar[Mapping[str, Any] | None] = None  #: JSON Schema of its options; Any: JSON
    #: the records travel in the config of the built image (`image_config`); there is nothing to `save`
    in_image: ClassVar[bool] = False
    #: of an export, set by the constructor from its options. The records of all steps keep their layers, not only those of the results
    #: and of what they were built on (``mode=max``)
    all_layers: bool = False
    #: how layers that the build makes are packed for it, see `Exporter.layer_form`
    layer_form: LayerForm = LayerForm()
    #: where the records are, set by the constructor: equal texts of a source and of a target mean that what one had the other has. Empty
    #: where that cannot be known
    location: str = ""
    #: the repository of a registry (``domain/path``) that has the layers, set by the constructor: others of that registry may mount them
    repository: str = ""
    #: a failed `save` is only a warning (``ignore-error=true``)
    ignores_errors: bool = False
    #: no more than so many bytes of one cache mount are saved, as they are packed
    mount_limit: int = 1 << 30

    def __init__(self, context: CacheContext, options: Mapping[str, Any]) -> None:
        self.context = context
        self.options = dict(options)

    def check(self, *, export: bool) -> None:
        """Look at the options for *export* (or import) before the build begins. Raises UsageError; changes nothing and uses no network."""

    def carries_mount(self, name: str) -> bool:
        """Tell whether the content of cache mounts with the id *name* is saved here, or taken from here; called after `check`."""
        return False

    @abstractmethod
    def load(self) -> CacheLoad:
        """Return all records, in one round of requests. Raises ImgError if the source is missing or cannot be reached."""

    @abstractmethod
    def fetch(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        """Give the bytes of a layer of a loaded record from *start* on; the caller verifies them. Raises ImgError."""

    def send(self, descriptor: Descriptor) -> None:
        """Store the blob of a layer, which is in our store and which records of this build will name, while the build still goes on.

        Need not do anything; `save` brings what is missing. Called from several threads. Raises ImgError, which nobody hears of.
        """

    def save(self, records: Sequence[CacheRecord], progress: ExportProgress) -> CacheReport:
        """Save *records* beside those of other writers, which all stay; without news nothing is written.

        Their blobs are in the store, but for those of records that were loaded in this build from the same `location`: these are there.

        Killed at any instant it leaves what was there before or the whole. Raises ImgError.
        """
        from img_core.spec.errors import Unsupported

        raise Unsupported(f"cache `{self.name}` can only be read")

    def prune(
        self,
        progress: ExportProgress,
        *,
        max_age: float | None = None,
        max_size: int | None = None,
        dry_run: bool = False,
    ) -> CachePruned:
        """Forget records that were not used for *max_age* seconds, and so many that the layers of the others fit into *max_size* bytes.

        What was used last stays. With *dry_run* nothing is changed. Raises ImgError.
        """
        from img_core.spec.errors import Unsupported

        raise Unsupported(f"cache `{self.name}` cannot be pruned")

    def image_config(self, image: BuiltImage, records: Sequence[CacheRecord]) -> Mapping[str, Any]:  # Any: JSON
        """Return what to add to the config of *image* so that it carries *records*; only called where `in_image` is set."""
        return {}

    def close(self) -> None:
        """End connections; `fetch` is not called any more."""
