"""Executors: run one process in a root file system."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.spec.host import Host
    from img_core.spec.snapshotter import Rootfs

__all__ = ["Executor", "ExitStatus", "Mount", "OwnerRecord", "Process", "StepIO"]


@dataclass(frozen=True, slots=True)
class Mount:
    """Something mounted in the container at *target* (absolute; its symlinks resolve inside the container).

    ``bind``: *source_fd* is a descriptor of a directory or file (a plain one or a detached mount). ``tmpfs``: *size* bytes at most
    (0: no limit), *mode* of its root. Who can only note owners shows a socket with this *owner* (uid, gid) and *mode*.
    Mounts are attached parents first. A missing mount point is made, and removed after the run.
    One at a place that the executor provides (``/dev/shm``, ``/sys``) replaces what is there; the kernel's own (``/proc``, ``/dev``
    itself) cannot be replaced. *options* are those of a frontend that the executor `understands`.
    """

    target: str
    kind: str = "bind"
    source_fd: int = -1
    readonly: bool = True
    size: int = 0
    mode: int = 0o1777
    owner: tuple[int, int] = (0, 0)
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Process:
    """What to run. Ids are those inside the container; *env* is complete (nothing is inherited, not even PATH).

    *network* is ``host``, ``none``, or ``private``: then the process joins the network namespace *network_fd*. *security* is ``sandbox``
    or ``insecure``. *ulimits* are ``(name, soft, hard)`` with the names of
    setrlimit(2) in lower case (``nofile``). *cgroup_fds* are files ``cgroup.procs``, open for writing: the process enters these groups
    before it does anything. The executor provides /proc, /sys, /dev and /dev/shm of *shm_size* bytes. *options* as in `Mount`.
    """

    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    hostname: str = "buildkitsandbox"
    network: str = "host"
    network_fd: int = -1
    cgroup_fds: tuple[int, ...] = ()
    security: str = "sandbox"
    mounts: tuple[Mount, ...] = ()
    umask: int = 0o022
    shm_size: int = 64 * 1024 * 1024
    ulimits: tuple[tuple[str, int, int], ...] = ()
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class StepIO:
    """Where a step's output goes: descriptors open for writing. Its input comes from *stdin*, and is empty if that is negative.

    *cancel_fd* becomes readable when the step must stop: the executor then kills the container and returns within a second.
    With *terminal* the other three are one terminal that no process has yet: the process gets it, or one that follows it (size, keys and
    settings), as the controlling terminal of a session of its own.
    """

    stdout: int
    stderr: int
    cancel_fd: int
    stdin: int = -1
    terminal: bool = False


@dataclass(frozen=True, slots=True)
class OwnerRecord:
    """In single-id mapping: the owner that the step gave to an inode that cannot carry the ``user.img.owner`` attribute."""

    device: int
    inode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended: *code* is 0-255, 128 + n for signal n; *canceled* tells that we stopped it."""

    code: int
    canceled: bool = False
    owners: tuple[OwnerRecord, ...] = field(default=())


class Executor(ABC):
    """Runs processes in root file systems.

    One object serves one build; `run` is called from several threads at once. When `run` returns or raises, and also when the builder is
    killed, no process and no mount of the step is left. Files that the executor had to make in the root file system (mount points) are
    gone. In ``single`` mapping the process may change owners and ids as if it were root, and sees what it changed; the wanted owner of a
    regular file or directory is recorded in its attribute ``user.img.owner`` (``uid:gid`` in decimal), that of other files in
    `ExitStatus.owners`.
    """

    name: ClassVar[str]  #: the word that selects it
    api: ClassVar[tuple[int, int]] = (1, 1)
    schema: ClassVar[Mapping[str, Any] | None] = None  #: JSON Schema of its options; Any: JSON
    alone: ClassVar[bool] = False  #: files of this machine are elsewhere while a step runs: nothing else is done then
    #: Names of options of mounts and processes; it never gets others.
    understands: ClassVar[frozenset[str]] = frozenset()
    lends: ClassVar[bool] = False  #: a directory that a step may write is in its tree then: in one place at a time

    def __init__(self, host: Host, options: Mapping[str, Any] | None = None) -> None:
        self.host = host
        self.options = dict(options or {})

    @classmethod
    def probe(cls, host: Host) -> None:
        """Raise Unsupported with the reason if it cannot work here. Quick: a few system calls.

        With an argument ``options`` it gets what the constructor will get.
        """

    def turn(self, check: Callable[[], None]) -> AbstractContextManager[None]:
        """Have all to itself that steps of several processes share, while the block prepares one and runs it.

        Entered only if steps run `alone`, before anything is taken that another process may wait for. *check* is called while it waits,
        and raises to give up.
        """
        del check
        return nullcontext()

    @abstractmethod
    def run(self, process: Process, rootfs: Rootfs, io: StepIO) -> ExitStatus:
        """Run *process* to its end. Raises StepError if it could not be started, HostError for what the host lacks."""
