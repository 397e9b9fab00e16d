"""What a step may use, and how the two versions of control groups write that."""

from __future__ import annotations

from typing import Final

from img_core.spec.dataclass import dataclass
from img_core.spec.errors import UsageError

__all__ = ["Limits", "Setting"]

_LEAST_MEMORY: Final = 6 << 20  # below that a container does not even start; docker says the same
_PERIOD: Final = 100_000  # microseconds, the kernel's default
_SHARES: Final = (2, 262_144)  # the kernel's bounds


@dataclass(frozen=True, slots=True)
class Setting:
    """One file of a control group, and the *flag* of the command line to blame."""

    controller: str
    file: str
    value: str
    flag: str


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of each single step, as ``docker build`` has them; zero and empty mean none.

    *memory* and *memory_swap* (memory and swap together; -1: as much swap as there is) are bytes, *cpu_period* and *cpu_quota*
    microseconds, *cpu_shares* a weight (1024 is usual), *cpuset_cpus* and *cpuset_mems* lists such as ``0-2,4``.
    """

    memory: int = 0
    memory_swap: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""

    def __bool__(self) -> bool:
        """Tell whether there is any limit."""
        return self != Limits()

    def check(self) -> None:
        """Raise UsageError for what makes no sense."""
        if self.memory and self.memory < _LEAST_MEMORY:
            raise UsageError("`--memory` must be at least 6m")
        if self.memory_swap and not self.memory:
            raise UsageError("`--memory-swap` needs `--memory`", hint="it is the sum of memory and swap")
        if 0 < self.memory_swap < self.memory:
            raise UsageError(
                "`--memory-swap` must not be less than `--memory`", hint="it is the sum of memory and swap"
            )
        if self.cpu_period and not 1000 <= self.cpu_period <= 1_000_000:
            raise UsageError("`--cpu-period` must be from 1000 to 1000000 microseconds")
        if self.cpu_quota and self.cpu_quota < 1000:
            raise UsageError("`--cpu-quota` must be at least 1000 microseconds")
        if self.cpu_shares and not _SHARES[0] <= self.cpu_shares <= _SHARES[1]:
            raise UsageError(f"`--cpu-shares` must be from {_SHARES[0]} to {_SHARES[1]}")

    def settings(self, version: int) -> list[Setting]:
        """Return the files to write, in this order, for *version* 1 or 2 of control groups."""
        return self._unified() if version == 2 else self._separate()

    def _unified(self) -> list[Setting]:
        found = []
        if self.memory:
            found.append(Setting("memory", "memory.max", str(self.memory), "--memory"))
        if self.memory_swap:
            swap = "max" if self.memory_swap < 0 else str(self.memory_swap - self.memory)
            found.append(Setting("memory", "memory.swap.max", swap, "--memory-swap"))
        if self.cpu_quota or self.cpu_period:
            quota = f"{self.cpu_quota or 'max'} {self.cpu_period or _PERIOD}"
            found.append(Setting("cpu", "cpu.max", quota, "--cpu-quota"))
        if self.cpu_shares:
            found.append(Setting("cpu", "cpu.weight", str(_weight(self.cpu_shares)), "--cpu-shares"))
        return found + self._places()

    def _separate(self) -> list[Setting]:
        found = []
        if self.memory:
            found.append(Setting("memory", "memory.limit_in_bytes", str(self.memory), "--memory"))
        if self.memory_swap:
            found.append(Setting("memory", "memory.memsw.limit_in_bytes", str(self.memory_swap), "--memory-swap"))
        if self.cpu_period:
            found.append(Setting("cpu", "cpu.cfs_period_us", str(self.cpu_period), "--cpu-period"))
        if self.cpu_quota:
            found.append(Setting("cpu", "cpu.cfs_quota_us", str(self.cpu_quota), "--cpu-quota"))
        if self.cpu_shares:
            found.append(Setting("cpu", "cpu.shares", str(self.cpu_shares), "--cpu-shares"))
        return found + self._places()

    def _places(self) -> list[Setting]:
        found = []
        if self.cpuset_cpus:
            found.append(Setting("cpuset", "cpuset.cpus", self.cpuset_cpus, "--cpuset-cpus"))
        if self.cpuset_mems:
            found.append(Setting("cpuset", "cpuset.mems", self.cpuset_mems, "--cpuset-mems"))
        return found


def _weight(shares: int) -> int:
    """Translate shares (2-262144) to the weight of version 2 (1-10000), as container engines agree."""
    return 1 + (shares - _SHARES[0]) * 9999 // (_SHARES[1] - _SHARES[0])
