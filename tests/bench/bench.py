"""Measure img against other tools on this machine, in alternation, and print one table in Markdown.

Run as an ordinary user by ``nox -s bench``, with the names of some parts after ``--`` for those only; ``--output DIRECTORY`` writes the
table as Markdown, JSON and a picture, too. Programs that are not on PATH are left out. ``--scale`` measures how cost grows with size
instead (`scale`). Figures stand in docs/explanation/performance.md.
"""

from __future__ import annotations

import argparse
import compileall
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import count
from pathlib import Path

import measure
from containers import container_start
from machines import many_builds, stages_on_workers
from measure import Command, alternate, clean_environment, cpu, difference, program, remove, run
from report import Report
from scale import CURVES, growth, table, write
from transfers import TransferBench

STEPS = 20
FILES = 20_000
_LARGE_MIB = 512
_STAGES = 4
_SETTLED_SECONDS = 2.5  #: after a change, until a build leaves a note (docs/explanation/performance.md)


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

    def __init__(self, work: Path, rounds: int, report: Report) -> None:
        self.report = report
        self.work = work
        self.rounds = rounds
        self.context = work / "context"
        self.context.mkdir()
        self.img = program()
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
        rows = [
            difference(tool, figures[f"{tool} many"], figures[f"{tool} one"], STEPS)
            for tool in ("img", "buildah")
            if f"{tool} one" in figures
        ]
        self.report.add(f"one more uncached `RUN true` (of {STEPS})", rows)

    def cached(self) -> None:
        """A rebuild with nothing changed, eight steps, the whole process; from a note once nothing had changed for two seconds."""
        eight = self.dockerfile("eight", 7)
        self.img_build(eight)
        time.sleep(_SETTLED_SECONDS)
        self.img_build(eight)  # which leaves the note
        candidates = {
            "img": lambda: self.img_build(eight),
            "the interpreter": lambda: run([sys.executable, "-I", "-c", "pass"]),
        }
        if self.buildah:
            self.buildah_build(eight)
            candidates["buildah"] = lambda: self.buildah_build(eight)
        self.report.add("rebuild of 8 steps, nothing changed", alternate(self.rounds * 3, candidates))

    def stages(self) -> None:
        """Four independent stages that wait for two seconds each, which is the least that all can take."""
        path = self.context / "stages"
        made = "".join(f"FROM bench-base AS s{n}\nRUN busybox sleep 2; echo {n} > /out\n" for n in range(_STAGES))
        copied = "".join(f"COPY --from=s{n} /out /{n}\n" for n in range(_STAGES))
        path.write_text(f"{made}FROM bench-base\n{copied}")
        candidates = {"img": lambda: self.img_build(str(path), "--no-cache")}
        if self.buildah:
            jobs = ["--no-cache", "--jobs", str(_STAGES)]
            candidates["buildah"] = lambda: self.buildah_build(str(path), *jobs)
        self.report.add(f"{_STAGES} stages that wait for 2 s each", alternate(self.rounds, candidates))

    def archive(self) -> None:
        """An OCI archive of an image whose steps are cached, into one file; and each time into another one, of which img has no note."""
        ten = self.dockerfile("ten", 9)
        self.img_build(ten)
        there = self.work / "archives"
        there.mkdir(exist_ok=True)
        numbers = count()

        def to(name: str) -> float:
            return self.img_build(ten, "-o", f"type=oci,dest={there / name}")

        to("img.tar")
        time.sleep(_SETTLED_SECONDS)
        to("img.tar")  # which leaves the note
        candidates = {"img": lambda: to("img.tar"), "img, another file": lambda: to(f"img-{next(numbers)}.tar")}
        if buildah := self.buildah:
            self.buildah_build(ten)
            push = [*buildah, "push", "localhost/out:latest", f"oci-archive:{there / 'buildah.tar'}"]
            candidates["buildah bud, buildah push"] = lambda: self.buildah_build(ten) + run(push)
        self.report.add("OCI archive of a cached image", alternate(self.rounds, candidates))

    def many_files(self) -> None:
        """COPY of 20,000 small files, nothing cached."""
        files = self.context / "files"
        for number in range(FILES):
            if number % 100 == 0:
                (files / str(number // 100)).mkdir(parents=True)
            (files / str(number // 100) / str(number)).write_bytes(b"%d" % number * 50)
        path = self.context / "copies"
        path.write_text("FROM bench-base\nCOPY files /files\n")
        self._copy(f"COPY of {FILES} files", path)
        shutil.rmtree(files)

    def large_file(self) -> None:
        """COPY of one file that nothing can compress, nothing cached."""
        large = self.context / "large"
        with large.open("wb") as file:
            for _ in range(_LARGE_MIB):
                file.write(os.urandom(1 << 20))
        path = self.context / "copies-one"
        path.write_text("FROM bench-base\nCOPY large /large\n")
        self._copy(f"COPY of {_LARGE_MIB} MiB", path)
        large.unlink()

    def _copy(self, work: str, path: Path) -> None:
        candidates = {"img": lambda: self.img_build(str(path), "--no-cache")}
        if self.buildah:
            candidates["buildah"] = lambda: self.buildah_build(str(path), "--no-cache")
        self.report.add(work, alternate(self.rounds, candidates))

    def start_up(self) -> None:
        """The smallest commands, and the interpreter alone."""
        python = [sys.executable]
        candidates = {
            "img version": lambda: cpu([*python, "-m", "img_core", "version"]),
            "img --version": lambda: cpu([*python, "-m", "img_core", "--version"]),
            "img --help": lambda: cpu([*python, "-m", "img_core", "--help"]),
            "the interpreter": lambda: cpu([*python, "-I", "-c", "pass"]),
        }
        for tool in ("buildah", "podman", "skopeo", "umoci", "buildctl"):
            if found := shutil.which(tool):
                candidates[f"{tool} --version"] = partial(cpu, [found, "--version"])
        self.report.add("start-up", alternate(15, candidates), unit="processor time")


ALONE = {"container_start": container_start, "stages_on_workers": stages_on_workers, "many_builds": many_builds}
BUILDS = ("start_up", "cached", "run_steps", "archive", "many_files", "large_file", "stages")
TRANSFERS = (
    "list_many",
    "small",
    "shared_cache",
    "cold_build",
    "pull_and_unpack",
    "beside_a_writer",
    "pull_large",
    "push_large",
)


def scale(names: list[str], part: int, output: Path | None) -> None:
    """Measure growth, print the table, and write it with its picture to *output*."""
    work = Path(tempfile.mkdtemp(prefix="img-scale-", dir="/var/tmp"))  # /tmp may be in memory
    try:
        curves = {name: growth(work, name, part) for name in names or CURVES}
    finally:
        remove(work)
    print(table(curves))
    if output:
        write(curves, output)


def require_bytecode() -> None:
    """Compile our modules as an installation does: who runs a checkout of somebody else would compile them again in each command."""
    root = Path(__file__).parents[2]
    if not all(compileall.compile_dir(root / name, quiet=2) for name in ("img_core", "plugins")):
        sys.exit(
            "the modules are not compiled: let the owner of the checkout run `python -m compileall img_core plugins`"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds",
        type=float,
        default=measure.most_seconds,
        help="begin no more rounds of a row after so many; default: %(default)g",
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join((*ALONE, *BUILDS, *TRANSFERS))}; default: all"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIRECTORY", help="write bench.md, bench.json and bench.svg there"
    )
    parser.add_argument(
        "--containers",
        action="store_true",
        help="measure steps in unmodified containers, and nothing else; as root. The parts are kinds of containers",
    )
    parser.add_argument("--scale", action="store_true", help=f"measure how cost grows instead: {', '.join(CURVES)}")
    parser.add_argument(
        "--part", type=int, default=1, metavar="N", help="with --scale: only to the Nth part of the largest sizes"
    )
    options = parser.parse_args()
    measure.most_seconds = options.seconds
    require_bytecode()
    if options.scale:
        scale(options.parts, options.part, options.output)
        return
    if options.containers:
        sys.path.insert(1, str(Path(__file__).parents[1]))  # we are a program
        from unmodified import KINDS, steps_in_containers
    known = KINDS if options.containers else [*ALONE, *BUILDS, *TRANSFERS]
    if unknown := set(options.parts) - set(known):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    wanted = [] if options.containers else options.parts or [*ALONE, *BUILDS, *TRANSFERS]
    work = Path(tempfile.mkdtemp(prefix="img-bench-"))
    report = Report(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    try:
        if options.containers:
            steps_in_containers(options.rounds, options.parts or [*KINDS], report)
        for name, part in ALONE.items():
            if name in wanted:
                part(options.rounds, report)
        if builds := [name for name in BUILDS if name in wanted]:
            (work / "builds").mkdir()
            bench = Bench(work / "builds", options.rounds, report)
            for name in builds:
                getattr(bench, name)()
        if transfers := [name for name in TRANSFERS if name in wanted]:
            with TransferBench(work / "transfers", options.rounds, report) as transfer_bench:
                for name in transfers:
                    getattr(transfer_bench, name)()
    finally:
        print(report.markdown())
        if options.output:
            report.write(options.output)
        remove(work)


if __name__ == "__main__":
    main()
