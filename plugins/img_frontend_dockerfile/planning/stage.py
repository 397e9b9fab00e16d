"""One stage while its instructions are applied: state, step names, history and the vertices it makes."""

from __future__ import annotations

import posixpath
from dataclasses import field, replace
from typing import TYPE_CHECKING

from img_core.spec.dataclass import dataclass
from img_core.spec.frontend import HistoryEntry
from img_core.spec.graph import CONTEXT_SCHEME, Location, SourceOp, Vertex
from img_core.spec.text import redacted
from img_frontend_dockerfile.lint.context_rules import ContextRules
from img_frontend_dockerfile.syntax.budget import ENTRY, PAIR
from img_frontend_dockerfile.syntax.expansion import expand_for_display, expand_heredoc, expand_word, expand_words
from img_frontend_dockerfile.syntax.scope import BUILDER_ARGUMENTS
from img_frontend_dockerfile.syntax.text import undefined_variable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from img_core.spec.frontend import BaseImage, PlanRequest, Resolver
    from img_core.spec.graph import Op
    from img_core.spec.values import Platform
    from img_frontend_dockerfile.lint.findings import WarningList
    from img_frontend_dockerfile.planning.config import StageConfig
    from img_frontend_dockerfile.planning.names import StageNames, Target
    from img_frontend_dockerfile.syntax.budget import Budget
    from img_frontend_dockerfile.syntax.instructions import Instruction
    from img_frontend_dockerfile.syntax.program import Program, Stage
    from img_frontend_dockerfile.syntax.scope import GlobalScope
    from img_frontend_dockerfile.syntax.source import Span

__all__ = ["COMMENT", "Inputs", "Shared", "StageBuilder", "StageState", "clean_path", "context_vertex"]

COMMENT = "buildkit.dockerfile.v0"


def clean_path(path: str) -> str:
    """Return the shortest absolute form of *path*; ``..`` stops at the root."""
    return posixpath.normpath("/" + path.lstrip("/"))


def context_vertex() -> Vertex:
    """Return the main build context, as far as the resolver does not put something else in its place."""
    return Vertex(SourceOp(CONTEXT_SCHEME, "context"), name="[internal] load build context")


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """What all stages of one plan for one platform share."""

    program: Program
    request: PlanRequest
    resolver: Resolver
    platform: Platform
    names: StageNames
    scope: GlobalScope
    warnings: WarningList
    budget: Budget  #: what expansion may still make
    arguments: set[str]  #: names that ARG instructions declared anywhere
    epoch: int | None = None  #: SOURCE_DATE_EPOCH
    checking: bool = False  #: nothing will be built: say what steps would find out


@dataclass(slots=True, eq=False)
class StageState:
    """What a stage is so far. *env* is what expansion and RUN see: ENV and ARG, last write wins."""

    platform: Platform
    config: StageConfig
    env: dict[str, str]
    root: Vertex | None = None
    base: BaseImage | None = None
    history: list[HistoryEntry] = field(default_factory=list)
    arguments: dict[str, str | None] = field(default_factory=dict)  #: declared in the stage, in order
    cmd_set: bool = False  #: by this stage itself
    workdir_set: bool = False

    def child(self) -> StageState:
        """Return the state of a stage that starts from this one: what ENV said wins again over its arguments."""
        return replace(
            self,
            config=self.config.copy(),
            env=self.env | self.config.env,
            history=list(self.history),
            arguments=dict(self.arguments),
            cmd_set=False,
        )

    @property
    def size(self) -> int:
        """What handing the state on takes of a `Budget`."""
        return PAIR * (len(self.env) + len(self.arguments)) + ENTRY * len(self.history)

    @property
    def directory(self) -> str:
        """The working directory, absolute and clean."""
        return clean_path(self.config.working_dir)

    def resolve(self, path: str) -> str:
        """Return *path* as seen from the working directory, absolute and clean."""
        return clean_path(posixpath.join(self.directory, path))


class Inputs:
    """The inputs of one vertex, each once."""

    def __init__(self, *vertices: Vertex | None) -> None:
        self.vertices = [vertex for vertex in vertices if vertex is not None]

    def add(self, vertex: Vertex | None) -> int | None:
        """Return the index of *vertex*, adding it if needed; None for an empty root."""
        if vertex is None:
            return None
        for index, known in enumerate(self.vertices):
            if known.digest == vertex.digest:
                return index
        self.vertices.append(vertex)
        return len(self.vertices) - 1


class StageBuilder:
    """Applies instructions to one `StageState`. *fetch* gives the vertex behind a ``--from`` target."""

    def __init__(
        self, shared: Shared, stage: Stage, state: StageState, fetch: Callable[[Target, StageBuilder], Vertex | None]
    ) -> None:
        self.shared = shared
        self.stage = stage
        self.state = state
        self._fetch = fetch
        self._done = 0
        self._total = 0
        self._current: Instruction = stage.start
        self._place: Span = stage.start.span
        self._triggered = False
        stages = {name.lower() for name in shared.request.no_cache_stages}
        self._use_cache = not shared.request.no_cache and stage.start.name not in stages

    def expect_steps(self, count: int) -> None:
        """Set how many numbered steps the stage has."""
        self._total = count

    def enter(self, instruction: Instruction, *, triggered: bool = False) -> None:
        """Make *instruction* the one that expansion, names and warnings speak of."""
        self._current, self._triggered = instruction, triggered
        self._place = instruction.span

    @property
    def place(self) -> Span:
        """The lines of the current instruction."""
        return self._place

    def expand(self, word: str) -> str:
        """Expand *word* with the variables of the stage."""
        unset: set[str] = set()
        result = expand_word(
            word, self.state.env, escape=self.shared.program.escape, unset=unset, budget=self.shared.budget
        )
        self._report_unset(unset)
        return result

    def expand_list(self, words: Iterable[str]) -> list[str]:
        """Expand *words*; blanks in values separate. As in BuildKit, nothing is said of unset variables here."""
        escape, budget = self.shared.program.escape, self.shared.budget
        return [part for word in words for part in expand_words(word, self.state.env, escape=escape, budget=budget)]

    def expand_body(self, content: str) -> str:
        """Expand the body of a here-document."""
        unset: set[str] = set()
        result = expand_heredoc(content, self.state.env, unset=unset, budget=self.shared.budget)
        self._report_unset(unset)
        return result

    def _report_unset(self, unset: set[str]) -> None:
        if self.shared.warnings.full:
            return
        known = self.state.arguments
        for name in sorted(name for name in unset if name not in known and name not in BUILDER_ARGUMENTS):
            self.warn("UndefinedVar", undefined_variable(name, self.state.env))

    def warn(self, rule: str, message: str) -> None:
        """Record a finding about the current instruction."""
        self.shared.warnings.add(rule, message, self._current.node)

    def context_rules(self) -> ContextRules:
        """Return what finds faults with what the current instruction takes from contexts."""
        return ContextRules(self.shared.resolver, self.warn, self.shared.checking)

    def source(self, name: str) -> Vertex | None:
        """Return the files behind ``--from=name``; None for an empty root. Raises `Fault`."""
        return self._fetch(self.shared.names.source(name, self.stage.index), self)

    def context(self) -> Vertex:
        """Return the main build context."""
        kind = self.shared.resolver.context_kind("context")
        if kind in (None, CONTEXT_SCHEME):
            return context_vertex()
        reference = self.shared.resolver.context_reference("context")
        return Vertex(SourceOp(kind or CONTEXT_SCHEME, reference), name="[internal] load build context")

    def title(self, text: str) -> str:
        """Number *text* as the next step: ``[linux/arm64 build 2/4] RUN make``."""
        self._done += 1
        width = len(str(self._total))
        parts = [self._platform_prefix(), self._stage_prefix(), f"{self._done:{width}d}/{self._total}"]
        return f"[{' '.join(part for part in parts if part)}] {text}"

    def _platform_prefix(self) -> str:
        if len(self.shared.request.platforms) < 2:
            return ""
        own, target = self.state.platform, self.shared.platform
        if own == target:
            return str(own)
        shown = str(target).removeprefix(f"{own.os}/")
        return f"{own}->{shown}"

    def _stage_prefix(self) -> str:
        if len(self.shared.program.stages) == 1:
            return ""
        return self.stage.start.name or f"stage-{self.stage.index}"

    def display(self, hidden: Mapping[str, str] | None = None) -> str:
        """Return the text of the current instruction with what is known expanded; *hidden* replaces secret values."""
        node = self._current.node
        rest = node.original[len(node.keyword) :].rstrip()
        text = node.name + expand_for_display(
            rest,
            {**self.state.env, **hidden} if hidden else self.state.env,
            escape=self.shared.program.escape,
            budget=self.shared.budget,
        )
        return f"ONBUILD {text}" if self._triggered else text

    def vertex(
        self,
        op: Op,
        inputs: Iterable[Vertex],
        text: str,
        *,
        platform: Platform | None = None,
        numbered: bool = True,
        hint: str = "",
    ) -> Vertex:
        """Make a vertex for the current instruction."""
        return Vertex(
            op,
            tuple(inputs),
            platform=platform,
            name=redacted(self.title(text) if numbered else text),
            location=Location(self.shared.program.source.name, self._place.first, self._place.last),
            use_cache=self._use_cache,
            hint=hint,
        )

    def commit(self, created_by: str, vertex: Vertex | None = None) -> None:
        """Add a history entry; with *vertex*, the entry of the layer that it makes."""
        self.shared.budget.take(len(created_by))
        self.state.history.append(HistoryEntry(created_by, COMMENT, vertex))
