"""RUN: processes in a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.linux.parallel import once
from img_core.solver.handler import StepHandler
from img_core.solver.stacks import Stack
from img_core.spec.graph import RunOp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from img_core.solver.failure import StepFailure
    from img_core.solver.handler import StepPlace, Task
    from img_core.solver.run import Runner
    from img_core.solver.scope import BuildScope
    from img_core.solver.trees import Trees
    from img_core.spec.snapshotter import Rootfs

__all__ = ["RunHandler"]


class RunHandler(StepHandler[RunOp]):
    """Runs processes; what that takes is loaded with the first one that is not cached."""

    mount_points = True

    def __init__(self, scope: BuildScope, trees: Trees) -> None:
        super().__init__(scope, trees)
        self._runners: list[Runner] = []
        self._runner = once(self._new_runner)

    def key_parts(self, task: Task[RunOp]) -> list[str]:
        """Return digests of what mounts bring from other inputs."""
        first = task.inputs[0] if task.op.has_base else None
        base = first if isinstance(first, Stack) else None
        return [
            self.trees.mount_digest(mount, task.inputs, base) for mount in task.op.mounts if mount.input is not None
        ]

    def work(self, task: Task[RunOp], key_parts: Sequence[str], place: StepPlace) -> None:
        """Run the process. Raises StepError if it fails."""
        self._runner().run(task, place)

    def enter(self, task: Task[RunOp], rootfs: Rootfs, message: str, use: Callable[[StepFailure], None]) -> None:
        """Let *use* enter *rootfs*, which the process of *task* left when it failed for the reason *message*."""
        self._runner().enter(task, rootfs, message, use)

    def _new_runner(self) -> Runner:
        from img_core.solver.run import Runner  # importing it takes longer than a cached build should

        self._runners.append(Runner(self.scope, self.trees))
        return self._runners[0]

    @property
    def cache_mounts(self) -> Mapping[str, str]:
        """The cache mounts that steps of this build may have changed: ids by the names of directories."""
        return self._runners[0].cache_mounts if self._runners else {}

    def close(self) -> None:
        """Forget the secrets."""
        for runner in self._runners:
            runner.close()
