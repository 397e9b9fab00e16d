"""Carries what a step prints to the progress events."""

from __future__ import annotations

import os
import selectors
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.spec.executor import StepIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.solver.events import Events

__all__ = ["captured"]

CHUNK = 64 * 1024


@contextmanager
def captured(step: str, events: Events, cancel_fd: int) -> Iterator[StepIO]:
    """Give a step descriptors to write to; everything written is in *events* when the block has ended."""
    out_reader, out_writer = os.pipe()
    err_reader, err_writer = os.pipe()
    pump = threading.Thread(target=_pump, args=(step, events, {out_reader: 1, err_reader: 2}), name="output")
    pump.start()
    try:
        yield StepIO(out_writer, err_writer, cancel_fd)
    finally:
        os.close(out_writer)
        os.close(err_writer)
        pump.join()


def _pump(step: str, events: Events, readers: dict[int, int]) -> None:
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            selector.register(reader, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ready in selector.select():
                data = os.read(key.fd, CHUNK)
                if data:
                    events.log(step, readers[key.fd], data)
                else:
                    selector.unregister(key.fd)
                    os.close(key.fd)
