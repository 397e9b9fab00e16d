"""Layers go to caches while the build goes on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from img_core.spec.errors import ImgError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from img_core.solver.stacks import Layer
    from img_core.spec.cache import CacheBackend
    from img_core.spec.values import Descriptor

__all__ = ["EarlyUploads"]


class EarlyUploads:
    """Sends layers to *targets* in the order in which they are made, one at a time: the steps are what matters.

    A target that fails gets no more; `CacheBackend.save` tries again, tells it, and brings the rest.
    """

    def __init__(self, targets: Sequence[CacheBackend]) -> None:
        self._targets = targets
        self._starting = threading.Lock()
        self._pool: list[Executor] = []  # none until a step ran
        self._failed: list[CacheBackend] = []

    def packed(self, _layer: Layer, blob: Descriptor) -> None:
        """Hear of a blob that was made of a step's layer."""
        with self._starting:
            if not self._pool and self._targets:
                from concurrent.futures import ThreadPoolExecutor  # 9 ms; only when a step ran

                self._pool.append(ThreadPoolExecutor(1, thread_name_prefix="cache"))
            for target in self._targets:
                self._pool[0].submit(self._send, target, blob)

    def _send(self, target: CacheBackend, blob: Descriptor) -> None:
        if target not in self._failed:
            try:
                target.send(blob)
            except (ImgError, OSError):
                self._failed.append(target)

    def end(self) -> None:
        """Wait for what is on the way, and drop what was not begun."""
        with self._starting:
            pool, self._pool = self._pool, []
        for one in pool:
            one.shutdown(wait=True, cancel_futures=True)
