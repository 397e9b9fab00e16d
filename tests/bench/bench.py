"""Measure img against other tools on this machine, in alternation, and print tables in Markdown.

Run as an ordinary user by ``nox -s bench``, with the names of some parts after ``--`` for those only. Figures of a quiet machine stand in
docs/explanation/performance.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from containers import container_start
from measure import Command, alternate, clean_environment, cpu, remove, run
from transfers import TransferBench

STEPS = 20


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


ALONE = {"container_start": container_start}
BUILDS = ("start_up", "cached", "run_steps")
TRANSFERS = ("list_many", "pull_and_unpack", "pull_large", "push_large")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join((*ALONE, *BUILDS, *TRANSFERS))}; default: all"
    )
    options = parser.parse_args()
    if unknown := set(options.parts) - {*ALONE, *BUILDS, *TRANSFERS}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    wanted = options.parts or [*ALONE, *BUILDS, *TRANSFERS]
    work = Path(tempfile.mkdtemp(prefix="img-bench-"))
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    try:
        for name, part in ALONE.items():
            if name in wanted:
                part(options.rounds)
        if builds := [name for name in BUILDS if name in wanted]:
            (work / "builds").mkdir()
            bench = Bench(work / "builds", options.rounds)
            for name in builds:
                getattr(bench, name)()
        if transfers := [name for name in TRANSFERS if name in wanted]:
            with TransferBench(work / "transfers", options.rounds) as transfer_bench:
                for name in transfers:
                    getattr(transfer_bench, name)()
    finally:
        remove(work)


if __name__ == "__main__":
    main()
