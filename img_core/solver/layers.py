"""Layers on disk: unpacked into snapshots and written as blobs only when somebody needs them."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from img_core.solver.layer_blobs import LayerBlobs
from img_core.solver.layer_snapshots import LayerSnapshots
from img_core.spec.errors import ImgError
from img_core.spec.exporter import LayerForm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from img_core.linux.cancellation import Cancellation
    from img_core.solver.events import Events
    from img_core.solver.stacks import Layer, Stack
    from img_core.spec.snapshotter import Snapshotter
    from img_core.spec.values import Descriptor
    from img_core.store import Store

__all__ = ["Layers"]

Work = TypeVar("Work")


class Layers:
    """The layers of one build as *blobs* and as *snapshots*, made when asked for or, meanwhile, beside other work.

    *forms* are those in which exporters will want blobs; none: nobody will. *packed* hears of each that was made for a step.
    """

    def __init__(
        self,
        store: Store,
        snapshotter: Snapshotter,
        events: Events,
        cancellation: Cancellation,
        forms: Sequence[LayerForm] = (),
        packed: Callable[[Layer, Descriptor], None] = lambda _layer, _blob: None,
    ) -> None:
        self._forms = forms
        self.blobs = LayerBlobs(store, snapshotter, events, cancellation, forms[0] if forms else LayerForm(), packed)
        self.snapshots = LayerSnapshots(store, snapshotter, events, cancellation, self.blobs)
        self._cancellation = cancellation
        self._starting_helpers = threading.Lock()
        self._helpers: list[Executor] = []  # none until there is work for them: a cached build has none

    def write_soon(self, layer: Layer) -> None:
        """Write a step's *layer* as exporters want it, beside other work; failures surface in `LayerBlobs.write`, which tries again."""
        for form in self._forms:
            if self.blobs.find(layer, form) is None:
                self._later(partial(self.blobs.write, form=form), layer)

    def unpack_soon(self, stack: Stack) -> None:
        """Fetch and unpack *stack* beside other work; failures surface in `LayerSnapshots.top`, which tries again."""
        if stack.layers and stack.layers[-1].snapshot is None:
            self._later(self.snapshots.top, stack)

    def _later(self, work: Callable[[Work], object], subject: Work) -> None:
        def quietly() -> None:
            if not self._cancellation.canceled:
                with suppress(ImgError, OSError):  # whoever needs the result meets the reason
                    work(subject)

        with self._starting_helpers:
            if not self._helpers:
                from concurrent.futures import ThreadPoolExecutor  # 9 ms; only when a step ran

                self._helpers.append(ThreadPoolExecutor(max_workers=3, thread_name_prefix="layer"))
            self._helpers[0].submit(quietly)

    def close(self) -> None:
        """Wait for work in the background."""
        for helper in self._helpers:
            helper.shutdown(wait=True, cancel_futures=True)
