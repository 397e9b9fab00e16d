"""Cache backends: build results shared between machines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from img_core.spec.exporter import ImageStore
    from img_core.spec.host import Host
    from img_core.spec.values import Descriptor, DiffId, Digest

__all__ = ["CacheBackend", "CacheRecord"]


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """One finished step: its cache *key* and the layers of its result, lowest first, each as descriptor and diff id."""

    key: str
    layers: tuple[tuple[Descriptor, DiffId], ...] = field(default=())


class CacheBackend(ABC):
    """Loads and saves cache records, e.g. in a registry (``--cache-from``, ``--cache-to``).

    A source that is missing is a warning, never an error; a failed save is an error unless the option ``ignore-error`` says otherwise.
    """

    name: ClassVar[str]  #: the word after ``type=``
    api: ClassVar[tuple[int, int]] = (1, 1)
    schema: ClassVar[Mapping[str, Any] | None] = None  #: JSON Schema of its options; Any: JSON

    def __init__(self, host: Host, options: Mapping[str, Any]) -> None:
        self.host = host
        self.options = dict(options)

    @abstractmethod
    def load(self, keys: Sequence[str]) -> Iterable[CacheRecord]:
        """Return the records it has for *keys*."""

    @abstractmethod
    def fetch(self, descriptor: Descriptor) -> Iterable[bytes]:
        """Give the bytes of a layer of a record; the caller verifies them."""

    @abstractmethod
    def save(self, records: Sequence[CacheRecord], store: ImageStore) -> Digest | None:
        """Save *records* and their blobs, read from *store*; return the digest of what was written, if it has one."""
