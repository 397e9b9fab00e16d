"""The eighteen instructions as values: checked for form, not yet expanded.

They are compared by identity (``eq=False``): nobody asks for more, and generating the methods takes milliseconds at import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.spec.dataclass import dataclass

if TYPE_CHECKING:
    from img_frontend_dockerfile.syntax.heredocs import Heredoc
    from img_frontend_dockerfile.syntax.parser import Node
    from img_frontend_dockerfile.syntax.source import Span

__all__ = [
    "Arg",
    "Cmd",
    "CopyOrAdd",
    "Entrypoint",
    "Env",
    "Expose",
    "From",
    "Healthcheck",
    "Instruction",
    "Label",
    "Maintainer",
    "OnBuild",
    "Run",
    "SetUser",
    "Shell",
    "StopSignal",
    "Volume",
    "Workdir",
]


@dataclass(frozen=True, slots=True, eq=False)
class Instruction:
    """What all instructions share."""

    node: Node

    @property
    def span(self) -> Span:
        """The lines of the instruction, here-documents included."""
        return self.node.span


@dataclass(frozen=True, slots=True, eq=False)
class From(Instruction):
    """Start a stage."""

    base: str
    name: str  #: in lower case; empty without AS
    written_name: str
    as_keyword: str
    platform: str | None  #: text of ``--platform``


@dataclass(frozen=True, slots=True, eq=False)
class Arg(Instruction):
    """Declare build arguments; a value of None means no default."""

    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Env(Instruction):
    """Set environment variables; *legacy* is the form without ``=``."""

    pairs: tuple[tuple[str, str], ...]
    legacy: bool


@dataclass(frozen=True, slots=True, eq=False)
class Label(Instruction):
    """Set labels; *legacy* is the form without ``=``."""

    pairs: tuple[tuple[str, str], ...]
    legacy: bool


@dataclass(frozen=True, slots=True, eq=False)
class Run(Instruction):
    """Run a command: *words* is an argument vector (*exec_form*) or one text for the shell."""

    words: tuple[str, ...]
    exec_form: bool
    mounts: tuple[str, ...]
    network: str | None
    security: str
    options: tuple[tuple[str, str], ...]  #: flags for the executor


@dataclass(frozen=True, slots=True, eq=False)
class Cmd(Instruction):
    """Set the default arguments."""

    words: tuple[str, ...]
    exec_form: bool


@dataclass(frozen=True, slots=True, eq=False)
class Entrypoint(Instruction):
    """Set the program that is started."""

    words: tuple[str, ...]
    exec_form: bool


@dataclass(frozen=True, slots=True, eq=False)
class CopyOrAdd(Instruction):
    """COPY, or ADD when *add* is true; texts are not expanded yet."""

    sources: tuple[str | Heredoc, ...]
    destination: str
    add: bool
    source_stage: str | None  #: ``--from``
    owner: str
    mode: str
    link: bool
    parents: bool
    exclude: tuple[str, ...]
    checksum: str
    keep_git_directory: bool
    unpack: bool | None


@dataclass(frozen=True, slots=True, eq=False)
class Expose(Instruction):
    """Declare ports."""

    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Volume(Instruction):
    """Declare volumes."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SetUser(Instruction):
    """Set the user of later RUN steps and of the image."""

    user: str


@dataclass(frozen=True, slots=True, eq=False)
class Workdir(Instruction):
    """Set, and make, the working directory."""

    path: str


@dataclass(frozen=True, slots=True, eq=False)
class Shell(Instruction):
    """Set the shell of shell forms."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class StopSignal(Instruction):
    """Set the signal that stops the container."""

    signal: str


@dataclass(frozen=True, slots=True, eq=False)
class Healthcheck(Instruction):
    """Set the health check; durations are nanoseconds, 0 means unset."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class OnBuild(Instruction):
    """Store *trigger*, an instruction as text, for the images that build on this one."""

    trigger: str


@dataclass(frozen=True, slots=True, eq=False)
class Maintainer(Instruction):
    """Set the author."""

    author: str
