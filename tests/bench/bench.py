"""Measure img against buildah on this machine, in alternation, and print a table in Markdown.

Run as an ordinary user by ``nox -s bench``. Only ratios of one run mean something: the machine is shared, so every round times every
candidate once and the minima and medians are compared. Figures of a quiet machine stand in docs/explanation/performance.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Command = list[str]

STEPS = 20


@dataclass
class Figure:
    name: str
    seconds: list[float]

    @property
    def low(self) -> float:
        return min(self.seconds)

    @property
    def middle(self) -> float:
        return statistics.median(self.seconds)


def run(command: Command, *, env: dict[str, str] | None = None, cwd: str | None = None) -> float:
    """Run *command* and return its wall time in seconds; its output is shown only if it fails."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, check=False)
    seconds = time.perf_counter() - started
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


def alternate(rounds: int, candidates: dict[str, Callable[[], float]]) -> list[Figure]:
    """Time every candidate once per round."""
    figures = [Figure(name, []) for name in candidates]
    for _ in range(rounds):
        for figure, candidate in zip(figures, candidates.values(), strict=True):
            figure.seconds.append(candidate())
    return figures


def busybox_root(directory: Path) -> Path:
    """Return a tar archive of a root file system that holds busybox only."""
    program = shutil.which("busybox")
    if program is None:
        sys.exit("the benchmark needs busybox (apt install busybox-static)")
    root = directory / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy(program, root / "bin/busybox")
    for name in ("sh", "true", "cat", "echo", "id"):
        (root / "bin" / name).symlink_to("busybox")
    archive = directory / "busybox.tar"
    subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
    return archive


class Bench:
    """The candidates, prepared in a directory of their own."""

    def __init__(self, work: Path, rounds: int) -> None:
        self.work = work
        self.rounds = rounds
        self.context = work / "context"
        self.context.mkdir()
        self.img = [sys.executable, "-m", "img_core"]
        archive = busybox_root(work)
        run([*self.img, "import", "--state", str(work / "state"), str(archive), "bench-base"], env=clean_environment())
        self.buildah: Command | None = None
        if found := shutil.which("buildah"):
            self.buildah = [found, "--root", str(work / "buildah"), "--runroot", str(work / "buildah-run")]
            self._import_into_buildah(archive)

    def _import_into_buildah(self, archive: Path) -> None:
        assert self.buildah is not None
        (self.work / "base").mkdir()
        shutil.copy(archive, self.work / "base/rootfs.tar")
        (self.work / "base/Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\n")
        run([*self.buildah, "bud", "--isolation", "chroot", "-t", "bench-base", str(self.work / "base")])

    def dockerfile(self, name: str, steps: int) -> str:
        path = self.context / name
        path.write_text("FROM localhost/bench-base\n".replace("localhost/", "") + "RUN true\n" * steps)
        return str(path)

    def img_build(self, dockerfile: str, *flags: str) -> float:
        command = [
            *self.img,
            "build",
            "--state",
            str(self.work / "state"),
            "-t",
            "out",
            "-f",
            dockerfile,
            *flags,
            str(self.context),
        ]
        return run(command, env=clean_environment())

    def buildah_build(self, dockerfile: str, *flags: str) -> float:
        assert self.buildah is not None
        command = [*self.buildah, "bud", "--isolation", "chroot", "--layers", *flags, "-t", "out", "-f", dockerfile]
        return run([*command, str(self.context)])

    def run_steps(self) -> None:
        """One uncached RUN: the difference between 21 and 1, divided by 20, for each tool."""
        one, many = self.dockerfile("one", 1), self.dockerfile("many", STEPS + 1)
        candidates = {
            "img one": lambda: self.img_build(one, "--no-cache"),
            "img many": lambda: self.img_build(many, "--no-cache"),
        }
        if self.buildah:
            candidates["buildah one"] = lambda: self.buildah_build(one, "--no-cache")
            candidates["buildah many"] = lambda: self.buildah_build(many, "--no-cache")
        figures = {figure.name: figure for figure in alternate(self.rounds, candidates)}
        print(f"\n| one more uncached `RUN true` (of {STEPS}) | best, ms | median, ms |\n|---|---|---|")
        for tool in ("img", "buildah"):
            if f"{tool} one" in figures:
                low = (figures[f"{tool} many"].low - figures[f"{tool} one"].low) / STEPS * 1000
                middle = (figures[f"{tool} many"].middle - figures[f"{tool} one"].middle) / STEPS * 1000
                print(f"| {tool} | {low:.1f} | {middle:.1f} |")

    def cached(self) -> None:
        """A rebuild with nothing changed, ten steps, the whole process."""
        ten = self.dockerfile("ten", 9)
        self.img_build(ten)
        candidates = {"img": lambda: self.img_build(ten)}
        if self.buildah:
            self.buildah_build(ten)
            candidates["buildah"] = lambda: self.buildah_build(ten)
        print("\n| rebuild of 10 steps, nothing changed | best, ms | median, ms |\n|---|---|---|")
        for figure in alternate(self.rounds * 3, candidates):
            print(f"| {figure.name} | {figure.low * 1000:.0f} | {figure.middle * 1000:.0f} |")

    def start_up(self) -> None:
        """Processor time of the smallest commands, above the bare interpreter's."""
        python = sys.executable
        candidates = {
            "bare interpreter": lambda: cpu([python, "-I", "-c", "pass"]),
            "img --version": lambda: cpu([python, "-m", "img_core", "--version"]),
            "img --help": lambda: cpu([python, "-m", "img_core", "--help"]),
        }
        figures = alternate(15, candidates)
        bare = figures[0]
        print("\n| start-up | best, CPU-ms above bare | median |\n|---|---|---|")
        for figure in figures[1:]:
            print(
                f"| {figure.name} | {(figure.low - bare.low) * 1000:.0f} | {(figure.middle - bare.middle) * 1000:.0f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="img-bench-"))
    try:
        bench = Bench(work, options.rounds)
        print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
        bench.start_up()
        bench.cached()
        bench.run_steps()
    finally:
        # files of sub-ids can only be removed in the namespace that made them
        remover = "import sys; from img_core.kit import fs, userns; userns.enter(); fs.remove_tree(sys.argv[1])"
        subprocess.run([sys.executable, "-c", remover, str(work)], check=False)


if __name__ == "__main__":
    main()
