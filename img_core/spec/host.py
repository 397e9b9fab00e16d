"""What a driver may know of, and ask from, the process it runs in."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from img_core.spec.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from img_core.spec.registry import Registries, Registry

__all__ = ["Finding", "FindingStatus", "Host", "IdMapping", "Spawned", "Spawner"]

#: How user ids are mapped: ``root`` real root, ``full`` sub-id ranges in a user namespace, ``single`` only our own id in a user
#: namespace (ownership is recorded instead of set), ``container`` root of a container that may make no namespace (owners can be set,
#: nothing can be mounted), ``none`` no namespace was entered (no mounts, no foreign ids).
IdMapping = Literal["root", "full", "single", "container", "fake", "none"]

#: ``ok`` it works; ``note`` something that few builds need is not there; ``worse`` builds work, but could be better; ``bad`` builds fail.
FindingStatus = Literal["ok", "note", "worse", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of ``img doctor``: *what* was looked at (the same words on every host), what was found, and the one thing to improve it."""

    status: FindingStatus
    what: str
    text: str
    hint: str = ""


class Spawned(Protocol):
    """A process started by a `Spawner`."""

    pid: int
    pidfd: int
    error: str  #: after `wait`: why the process could not become what was asked for, or an empty string

    def wait(self) -> int:
        """Wait until it ended; return its exit status, or 128 + n if signal n ended it."""

    def kill(self) -> None:
        """Send SIGKILL; to the first process of a pid namespace this ends all processes in it."""

    def close(self) -> None:
        """Release the descriptors; the process goes on."""


class Spawner(Protocol):
    """Starts processes from a small single-threaded process (the zygote) that dies with us and takes them along."""

    pid: int  #: of that process

    def spawn(
        self, entry: str, payload: Mapping[str, Any], *, fds: Sequence[int] = (), flags: int = 0
    ) -> Spawned:  # Any: JSON
        """Call the function *entry* (``module:name``) as ``name(payload, fds)`` in a new process made with clone *flags*.

        *payload* is JSON; *fds* arrive as descriptors with other numbers. The function's return value is the exit status.
        Callable from any thread.
        """


def _no_registry(*, insecure: Iterable[str] = (), brief: bool = False) -> Registry:
    from img_core.spec.errors import Unsupported

    raise Unsupported("registries cannot be reached from here")


@dataclass(frozen=True, slots=True)
class Host:
    """The environment of one command.

    *run_directory* is private to this process and removed when it ended (also after kill -9, by the next command).
    *environment* is the builder's own environment; it is never handed to a step. *registry* makes a registry of the configured driver.
    """

    mapping: IdMapping
    state_directory: str
    run_directory: str
    spawner: Spawner | None = None  #: None in commands that start no process
    real_uid: int = 0
    real_gid: int = 0
    mapping_reason: str = ""  #: why the mapping is not full, for people
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    registry: Registries = field(default=_no_registry, repr=False, compare=False)
