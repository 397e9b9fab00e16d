"""Carries what a process prints to whoever listens, while it runs."""

from __future__ import annotations

import os
import selectors
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["captured"]

CHUNK = 64 * 1024


@contextmanager
def captured(listen: Callable[[int, bytes], None]) -> Iterator[tuple[int, int]]:
    """Give a process descriptors for output (1) and errors (2); *listen* got all that was written when the block has ended.

    It is called with that number and some bytes, from a thread of its own.
    """
    out_reader, out_writer = os.pipe()
    err_reader, err_writer = os.pipe()
    pump = threading.Thread(target=_pump, args=(listen, {out_reader: 1, err_reader: 2}), name="output")
    pump.start()
    try:
        yield out_writer, err_writer
    finally:
        os.close(out_writer)
        os.close(err_writer)
        pump.join()


def _pump(listen: Callable[[int, bytes], None], readers: dict[int, int]) -> None:
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            selector.register(reader, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ready in selector.select():
                data = os.read(key.fd, CHUNK)
                if data:
                    listen(readers[key.fd], data)
                else:
                    selector.unregister(key.fd)
                    os.close(key.fd)
