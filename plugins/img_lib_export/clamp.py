"""Clamping the times in a layer to ``SOURCE_DATE_EPOCH`` (``rewrite-timestamp=true``)."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from img_core.archives.tar.pipeline import Serial
from img_core.archives.tar.reader import TarReader
from img_core.archives.tar.writer import TarWriter
from img_core.spec.errors import Canceled, ImgError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

__all__ = ["clamp_times"]

_DEPTH = 4  # blocks of about 1 MiB in flight


def clamp_times(stream: Iterable[bytes], epoch: int) -> Generator[bytes, None, None]:
    """Give the tar archive *stream* with no entry newer than *epoch*, in seconds since 1970; nothing else changes.

    Raises ArchiveError for a damaged archive and ImgError for one with sparse files, which our layers never have.
    """
    latest = epoch * 10**9

    def rewrite(write: Callable[[bytes], object]) -> None:
        with Serial(stream) as source:
            reader, writer = TarReader(source), TarWriter(write)
            for member in reader:
                if member.sparse is not None:
                    raise ImgError("cannot rewrite the times of a layer with sparse files")
                writer.add(
                    member.name,
                    kind=member.type,
                    mode=member.mode,
                    uid=member.uid,
                    gid=member.gid,
                    size=member.size,
                    mtime_ns=min(member.mtime_ns, latest),
                    linkname=member.linkname,
                    devmajor=member.devmajor,
                    devminor=member.devminor,
                    xattrs=member.xattrs,
                    data=reader.chunks() if member.size else None,
                )
            writer.finish()

    return _pushed(rewrite)


def _pushed(produce: Callable[[Callable[[bytes], object]], None]) -> Generator[bytes, None, None]:
    """Turn *produce*, which calls its argument with blocks, into an iterator over them; it runs in its own thread."""
    blocks: queue.Queue[bytes | BaseException | None] = queue.Queue(_DEPTH)
    stopped = threading.Event()

    def write(block: bytes) -> None:
        if stopped.is_set():
            raise Canceled
        blocks.put(block)

    def run() -> None:
        try:
            produce(write)
            blocks.put(None)
        except BaseException as err:  # raised again by the reader of the blocks
            blocks.put(err)

    thread = threading.Thread(target=run, name="img-clamp", daemon=True)
    thread.start()
    try:
        while (block := blocks.get()) is not None:
            if isinstance(block, BaseException):
                raise block
            yield block
    finally:
        stopped.set()
        while thread.is_alive():  # make room for a writer that waits
            try:
                blocks.get(timeout=0.05)
            except queue.Empty:
                continue
        thread.join()
