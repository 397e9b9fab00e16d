"""Results that come from caches of others, as far as every build has to know of them; `img_core.solver.cache_import` brings them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.spec.dataclass import dataclass
from img_core.spec.errors import ArchiveError, Canceled, IntegrityError, NotFoundError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from img_core.solver.stacks import Layer, Stack
    from img_core.spec.cache import CacheBackend, CacheRecord

__all__ = ["Imported", "Rejection", "RestartError", "rejecting", "require_layers"]


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
