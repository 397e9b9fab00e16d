"""More than one machine: stages that two local workers do at the same time, and many small builds that are handed over together."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path

from measure import Figure, alternate, clean_environment, remove, run
from report import Report

__all__ = ["many_builds", "stages_on_workers"]

_STAGES, _SECONDS, _BUILDS = 4, 2, 200
_PLUGIN = "from img_lib_engines.processes import engine_plugin\nimg_engine = engine_plugin()\n"
_EPOCH = "1700000000"

#: Builds twice, the first time with the engine, and prints the processor time that each build took this process, and its memory.
_MANY = """\
import json, resource, sys, time
from img_core.api import Client
state, plugin, engine, count, context = sys.argv[1:]
builds = [{"context": context, "tags": f"app{n}", "build_args": {"N": str(n)}} for n in range(int(count))]
with Client(state=state, plugin_files=[plugin], in_process=True) as client:
    client.enter()
    told = []
    for options in ({"engine": engine}, {}):
        began = time.process_time()
        client.build_many(builds, **options)
        told.append((time.process_time() - began) / len(builds))
print(json.dumps([*told, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def _prepared(work: Path, dockerfile: str) -> tuple[Path, Path]:
    """Return a context that has busybox, and the plugin with the engine."""
    program = shutil.which("busybox") or sys.exit("the benchmark needs busybox (apt install busybox-static)")
    context, plugin = work / "context", work / "engine-processes.py"
    context.mkdir()
    shutil.copy(program, context)
    (context / "Dockerfile").write_text(f"FROM scratch AS base\nCOPY busybox /bin/\nCOPY busybox /bin/sh\n{dockerfile}")
    plugin.write_text(_PLUGIN)
    return context, plugin


def stages_on_workers(rounds: int, report: Report) -> None:
    """Independent stages of two seconds on two workers, and on one; the images are the same, and the same as without workers.

    A worker runs one step at a time, as on a machine with one processor: its stages sleep, so that the processors of this machine,
    which the workers share, do not count. Without that limit one worker would sleep four times at once.
    """
    work = Path(tempfile.mkdtemp(prefix="img-bench-", dir="/var/tmp"))
    made = "".join(
        f"FROM base AS s{n}\nRUN busybox sleep {_SECONDS}; echo {n} > /out; busybox touch -r /bin/busybox /out\n"
        for n in range(_STAGES)
    )
    copied = "".join(f"COPY --from=s{n} /out /{n}\n" for n in range(_STAGES))
    context, plugin = _prepared(work, f"{made}FROM scratch\n{copied}")
    numbers, digests = count(), list[str]()

    def build(workers: str) -> float:
        place = work / str(next(numbers))
        engine = f"processes,home=0,workers={workers},states={place}/workers,max-parallelism=1"
        command = [sys.executable, "-m", "img_core", "-s", str(place / "state"), "--plugin", str(plugin)]
        built = ["build", "-t", "out", "--iidfile", str(work / "id"), "--build-arg", f"SOURCE_DATE_EPOCH={_EPOCH}"]
        built += ["--engine", engine] if workers else []
        seconds = run([*command, *built, str(context)], env=clean_environment())
        digests.append((work / "id").read_text())
        return seconds

    try:
        build("")
        figures = alternate(rounds, {"img, two workers": lambda: build("a;b"), "img, one worker": lambda: build("a")})
    finally:
        remove(work)
    assert len(set(digests)) == 1, digests
    work_done = f"{_STAGES} stages of {_SECONDS} s, one step at a time on each worker"
    report.add(f"{work_done} ({len(digests) - 1} builds, all with the digest of a build without workers)", figures)


def many_builds(rounds: int, report: Report) -> None:
    """Small builds that are handed over together to two workers: what each costs the client beside what a cached build does."""
    work = Path(tempfile.mkdtemp(prefix="img-bench-", dir="/var/tmp"))
    context, plugin = _prepared(work, "RUN echo shared > /shared\nFROM base\nARG N\nRUN echo $N > /own\n")
    handed, cached = Figure("img, handed over", []), Figure("img, cached", [])
    try:
        for number in range(rounds):
            place = work / str(number)
            engine = f"processes,home=0,states={place}/workers"
            command = [
                sys.executable,
                "-c",
                _MANY,
                str(place / "state"),
                str(plugin),
                engine,
                str(_BUILDS),
                str(context),
            ]
            done = subprocess.run(command, env=clean_environment(), check=True, capture_output=True, text=True)
            first, second, megabytes = json.loads(done.stdout)
            handed.seconds.append(first - second)
            cached.seconds.append(second)
            print(f"{_BUILDS} builds: {megabytes:.0f} MiB, load {os.getloadavg()[0]:.0f}", file=sys.stderr, flush=True)
    finally:
        remove(work)
    report.add(f"client's work for one of {_BUILDS} small builds", [handed, cached], unit="processor time")
