"""One layer in another form: compressed differently, with clamped times, streamed from the store back into it."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from img_core.archives.codecs import BLOCK, compressed, decompressed
from img_core.archives.tar.pipeline import Prefetch
from img_core.images.digests import Hasher
from img_core.images.layer_types import layer_codec, layer_type
from img_core.spec.errors import IntegrityError
from img_core.spec.exporter import BuiltLayer
from img_core.spec.values import Descriptor, DiffId

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from img_core.spec.exporter import ImageStore

__all__ = ["Transform", "repack", "uncompressed"]

#: Maps a tar stream to another one.
Transform: TypeAlias = "Callable[[Iterable[bytes]], Generator[bytes, None, None]]"


def uncompressed(store: ImageStore, descriptor: Descriptor) -> Iterator[bytes]:
    """Give the tar stream of a stored layer. Raises IntegrityError or ArchiveError, at the latest at its end, if it is damaged."""
    return decompressed(store.chunks(descriptor), layer_codec(descriptor))


def repack(
    store: ImageStore,
    layer: BuiltLayer,
    codec: str,
    *,
    level: int | None = None,
    transform: Transform | None = None,
    tick: Callable[[int], None] = lambda _count: None,
) -> BuiltLayer:
    """Store *layer* compressed by *codec* and return it.

    *transform* maps the tar stream to the wanted one, e.g. clamps times; the diff id follows. *tick* is called with the
    number of bytes that passed and may raise to stop; then nothing is kept.
    """
    old, new = _Hashed(like=layer.diff_id), _Hashed(tick)
    # Reading, inflating and hashing the old form runs beside hashing and compressing the new one.
    with ExitStack() as closed:  # in reverse: a generator must not be closed while another thread is in it
        stream = closed.enter_context(closing(_ahead(old.watch(uncompressed(store, layer.descriptor)))))
        if transform:
            stream = closed.enter_context(closing(transform(stream)))
        chunks = closed.enter_context(closing(compressed(new.watch(stream), codec, level)))
        descriptor = store.ingest(chunks, layer_type(codec, docker=False))
    if old.diff_id() != layer.diff_id:
        raise IntegrityError(
            f"layer {layer.descriptor.digest} holds {old.diff_id()}, its image promises {layer.diff_id}"
        )
    return replace(layer, descriptor=descriptor, diff_id=new.diff_id())


def _ahead(stream: Iterable[bytes]) -> Generator[bytes, None, None]:
    """Give *stream*, which another thread reads a few blocks ahead."""
    with Prefetch(stream, name="img-repack") as source:
        while block := source.read(BLOCK):
            yield block


class _Hashed:
    """Computes the diff id of a stream that passes."""

    def __init__(self, tick: Callable[[int], None] = lambda _count: None, *, like: str = "") -> None:
        self._hash = Hasher(like)
        self._tick = tick

    def watch(self, stream: Iterable[bytes]) -> Iterator[bytes]:
        passed = 0
        for chunk in stream:
            self._hash.update(chunk)
            passed += len(chunk)
            self._tick(passed)
            yield chunk

    def diff_id(self) -> DiffId:
        return DiffId(self._hash.digest)
