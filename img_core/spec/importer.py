"""Importers: read images that other tools, or we, wrote into a file or directory (``img load``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from img_core.spec.dataclass import dataclass

if TYPE_CHECKING:
    import os

    from img_core.spec.exporter import ImageStore
    from img_core.spec.values import Descriptor

__all__ = ["ImportStream", "Importer", "LoadedImage"]


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image that is in the store now. *names* are normalised, with tag; none for a nameless image."""

    names: tuple[str, ...]
    descriptor: Descriptor


class ImportStream(Protocol):
    """What comes in, once and from the beginning."""

    def read(self, size: int, /) -> bytes:
        """Return at least one and at most *size* bytes, or nothing at the end."""


class Importer(ABC):
    """Takes images out of one form. One object serves one `load`; nothing of what it reads may be trusted."""

    name: ClassVar[str]
    api: ClassVar[tuple[int, int]] = (1, 1)
    schema: ClassVar[Mapping[str, Any] | None] = None  #: JSON Schema of its options; Any: JSON

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        self.options = dict(options or {})

    @classmethod
    @abstractmethod
    def claims(cls, start: bytes, directory: str = "") -> bool:
        """Tell whether this is its form, by the first bytes (512 of them, if there are so many) of a stream, or by a *directory*.

        The first importer of the configured order that says so gets it; what nobody claims goes to the first one of that order, which
        says what is wrong with it. Changes nothing.
        """

    @abstractmethod
    def load(self, source: ImportStream | str | os.PathLike[str], store: ImageStore) -> list[LoadedImage]:
        """Put every image of *source*, a stream or the path of a directory, into *store* and return them; the caller names them.

        Every blob is verified against its digest, every layer against the diff id of its config. Raises ArchiveError or IntegrityError;
        blobs stored until then are garbage that the store collects.
        """
