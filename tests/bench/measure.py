"""Time commands in alternation. Only ratios of one run mean something: the machine is shared, so each round times each candidate once."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Command", "Figure", "alternate", "clean_environment", "cpu", "difference", "program", "remove", "run"]

Command = list[str]


@dataclass
class Figure:
    """The wall times of one candidate, in seconds, and the processor times of what `run` ran for each; none where it ran nothing."""

    name: str
    seconds: list[float]
    processor: list[float] = field(default_factory=list)

    @property
    def low(self) -> float:
        return min(self.seconds)

    @property
    def middle(self) -> float:
        return statistics.median(self.seconds)

    @property
    def worked(self) -> float:
        return statistics.median(self.processor or [0.0])


_processor = 0.0  # of all that `run` ran


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def program() -> Command:
    """Return what people run: the program that was installed beside the interpreter; a module alone starts in another way."""
    installed = Path(sys.executable).with_name("img")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "img_core"]


def run(command: Command, *, env: dict[str, str] | None = None, cwd: str | None = None) -> float:
    """Run *command* and return its wall time in seconds; its output is shown only if it fails."""
    global _processor
    worked, started = _children(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, check=False)
    seconds = time.perf_counter() - started
    _processor += _children() - worked
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return seconds


def cpu(command: Command) -> float:
    """Return the processor time of *command* in seconds."""
    pid = os.posix_spawn(
        command[0],
        command,
        clean_environment(),
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime


def clean_environment() -> dict[str, str]:
    """Return the environment without what makes Python slow or different."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def difference(name: str, more: Figure, less: Figure, count: int = 1) -> Figure:
    """Return what one of *count* things costs that *more* did and *less* did not, round by round."""

    def each(high: list[float], low: list[float]) -> list[float]:
        return [(one - other) / count for one, other in zip(high, low, strict=True)]

    return Figure(name, each(more.seconds, less.seconds), each(more.processor, less.processor))


def alternate(rounds: int, candidates: dict[str, Callable[[], float]]) -> list[Figure]:
    """Time every candidate once per round; a round that begins more than `most_seconds` after the first one is left out."""
    figures = [Figure(name, []) for name in candidates]
    ends = time.monotonic() + most_seconds
    for number in range(rounds):
        if number and time.monotonic() > ends:
            break
        for figure, candidate in zip(figures, candidates.values(), strict=True):
            before = _processor
            figure.seconds.append(candidate())
            if _processor > before:
                figure.processor.append(_processor - before)
    return figures


most_seconds = 120.0  #: for the rounds of one row, as far as one round allows


_REMOVE = "import sys; from img_core.files import fs; from img_core.linux import userns; userns.enter(); fs.remove_tree(sys.argv[1])"


def remove(directory: Path) -> None:
    """Remove *directory* with files of sub-ids, which can only be removed in the namespace that made them."""
    if directory.exists():
        subprocess.run([sys.executable, "-c", _REMOVE, str(directory)], check=False)
