"""What handlers are given and what they give: a task, its work on a base, its result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar

from img_core.solver.keys import definition_of, step_key
from img_core.solver.stacks import EMPTY, Stack
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import ImgError
from img_core.spec.graph import FileOp, MergeOp, RunOp, SourceOp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.files.copy import Selection
    from img_core.solver.stacks import Evaluated
    from img_core.solver.trees import Trees
    from img_core.spec.graph import Copy, Vertex
    from img_core.spec.snapshotter import Rootfs

__all__ = ["Done", "StepPlace", "StepWork", "Task"]

O = TypeVar("O", SourceOp, RunOp, FileOp, MergeOp)  # noqa: E741
S = TypeVar("S", RunOp, FileOp)


@dataclass(frozen=True, slots=True)
class Task(Generic[O]):
    """One vertex with its operation and the results of its inputs; *inputs_made* tells that one of them is new."""

    vertex: Vertex
    op: O
    inputs: Sequence[Evaluated]
    inputs_made: bool = False

    def stack(self, index: int) -> Stack:
        """Return the root file system that is input *index*. Raises ImgError for a tree of files."""
        value = self.inputs[index]
        if not isinstance(value, Stack):
            raise ImgError("a build context cannot be a base image yet", hint="copy from it into `FROM scratch`")
        return value

    def input(self, index: int | None) -> Evaluated:
        """Return input *index*, or an empty root for None."""
        return EMPTY if index is None else self.inputs[index]


@dataclass(frozen=True, slots=True)
class Done:
    """The *result* of a task; *found* tells that nothing was done for it."""

    result: Evaluated
    found: bool = False


@dataclass(frozen=True, slots=True)
class StepPlace:
    """Where a step works: the writable *rootfs* of the new snapshot in *directory*, on the snapshots *parents*."""

    rootfs: Rootfs
    directory: str
    parents: tuple[str, ...]


class StepWork(ABC, Generic[S]):
    """One task at work on *base*: what it reads is looked at once, for its key and for its result. `close` it after use."""

    exact = False  #: whether the key tells all that it makes, but for times
    selections: Mapping[Copy, Selection] = {}  #: what was chosen from contexts until now

    def __init__(self, task: Task[S], trees: Trees) -> None:
        self.task: Task[S] = task
        self.base: Stack = task.stack(0) if task.op.has_base else EMPTY
        self.definition = definition_of(task.vertex)
        self.trees = trees

    @cached_property
    def key(self) -> str:
        """The cache key."""
        return step_key(self.task.vertex, self.base.identity, self.key_parts)

    @cached_property
    def key_parts(self) -> Sequence[str]:
        """What goes into the cache key beside the operation and its base: digests of what it reads elsewhere."""
        return self.read()

    def is_new(self, *, use_cache: bool) -> bool:
        """Tell whether nothing can be recorded of it, as far as that is known, and the key is best known when the work is done."""
        return False

    def fetch(self) -> None:
        """Bring here what work that `is_new` reads, while its base arrives."""

    @abstractmethod
    def read(self) -> Sequence[str]:
        """Return the `key_parts`; called once."""

    @abstractmethod
    def do(self, place: StepPlace) -> None:
        """Do the work in *place*. Raises ImgError."""

    def recorded(self) -> None:
        """Note that there is a record of it."""

    def close(self) -> None:
        """Close what was opened."""
