"""``img worker``: does the steps of one task, with nothing but a cache, and tells how it gets on, a JSON object a line."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from img_core.api._caches import Caches
from img_core.api._preparation import Preparation
from img_core.api._request import BuildRequest, CachePlace, SecretSource
from img_core.files import fs, space
from img_core.forms.event_lines import failure_text, line_of, result_text
from img_core.forms.tasks import SentTask
from img_core.solver.events import Events
from img_core.solver.solver import Solver
from img_core.spec.errors import Canceled, HostError, ImgError, StepError
from img_core.spec.progress import StepFinished, StepPlanned

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.api.session import Session
    from img_core.forms.tasks import PackedContext
    from img_core.linux.cancellation import Cancellation
    from img_core.spec.progress import Event

__all__ = ["Work"]


class Work:
    """The steps of one task, at most *steps* at the same time, in one session. *tell* gets the lines."""

    def __init__(
        self,
        session: Session,
        task: SentTask,
        cancellation: Cancellation,
        tell: Callable[[str], None],
        *,
        backend: str = "auto",
        executor: str = "auto",
        steps: int,
    ) -> None:
        request = BuildRequest(
            backend=backend,
            executor=executor,
            network=task.network,
            insecure_registries=task.insecure,
            offline=task.offline,
            secrets={name: SecretSource(value=value) for name, value in task.secrets.items()},
            cache_from=(CachePlace(*task.source),),
            cache_to=(CachePlace(*task.target),) if task.target else (),
        )
        self._session = session
        self._request = request
        self._events = Events(session.notice)
        self._events.listen(self._hear)
        self._prepared = Preparation(session, request, self._events, cancellation)
        self._task = task
        self._tell = tell
        self._steps = steps
        self._failed_step = ""

    def do(self) -> int:
        """Do the task; return the status of `ImgError.exit_code`. Failures are told and not raised, but for Canceled."""
        try:
            solver = self._solved()
        except Canceled:
            raise
        except ImgError as err:
            if isinstance(err, StepError) and space.is_nearly_full(self._session.store.state):
                err = HostError(f"its disk is full: {err.message}")
            self._tell(failure_text(err, step=self._failed_step))
            return err.exit_code
        self._tell(result_text(solver.made_steps, len(solver.cached)))
        return 0

    def _hear(self, event: Event) -> None:
        if isinstance(event, StepFinished) and event.error:
            self._failed_step = event.step
        if not isinstance(event, StepPlanned):
            self._tell(json.dumps(line_of(event), separators=(",", ":")))

    def _solved(self) -> Solver:
        session, task, prepared = self._session, self._task, self._prepared
        with ExitStack() as opened:
            opened.enter_context(fs.disk_errors(session.store.state))
            caches = Caches(session, self._request, self._events, prepared.step, self._request.cache_from[0])
            opened.enter_context(caches.opened(prepared.cancellation.fd))
            imports = caches.load(prepared.cancellation.cancel)
            unpacked = {name: self._unpacked(item, caches, opened) for name, item in task.contexts.items()}
            sources, resolver = prepared.sourceless(unpacked)
            drivers = prepared.drivers(sources, task.network)
            scope = prepared.scope(
                drivers, resolver, task.plan, layer_forms=tuple(caches.layer_forms), all_layers=True, imports=imports
            )
            solver = opened.enter_context(Solver(scope, max_workers=self._steps))
            solver.solve(ready=lambda outcome: caches.ready(outcome, scope, solver, ()))
            caches.save(prepared.progress)
            return solver

    def _unpacked(self, packed: PackedContext, caches: Caches, opened: ExitStack) -> str:
        """Return a path to the files of a context, which is good until *opened* ends. They stay in the store for the next task."""
        from img_core.solver.layers import Layers
        from img_core.solver.stacks import Layer, Stack

        store, snapshotter = self._session.store, self._session.snapshotter(self._request.backend)
        layers = Layers(store, snapshotter, self._events, self._prepared.cancellation, ())
        opened.callback(layers.close)
        name = "[internal] load build context"
        with self._prepared.step(name):
            fetch = partial(caches.first.fetch, packed.descriptor)
            layer = Layer(descriptor=packed.descriptor, diff_id=packed.diff_id, fetch=fetch, step=name)
            rootfs = opened.enter_context(layers.snapshots.view(Stack((layer,), packed.diff_id)))
        return f"/proc/{os.getpid()}/fd/{rootfs.fd}/context"
