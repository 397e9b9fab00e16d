"""Random commands, many of them killed at a random moment, for as long as you like: nothing that was listed is lost, and nothing is left.

``nox -s soak -- --minutes 120`` as an ordinary user. Each backend has a state directory and a worker of its own. After every kill

* ``img fsck --read-data`` finds nothing wrong,
* each name means what it meant before, or what the killed command wanted it to mean,
* no process is left, nothing in the temporary directory, and, once another command has run, nothing in ``run``.

The last line gives the figures; the exit status tells whether all of that held. A state in which it did not is kept for a look.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.bases import BUSYBOX_CONFIG, busybox_root, write_oci_archive
from harness.img import Finished, Img, environment, remove_as_mapped_root, write_context
from harness.processes import Orphans, wait_until
from harness.warm_commands import commands_in_forks

BACKENDS = ("overlayfs", "moving", "native", "fuse-overlayfs")
BASE = "docker.io/library/busybox:latest"
NAMES = tuple(f"docker.io/library/soak{number}:latest" for number in range(6))
_TOOLS = ("sh", "cat", "echo", "head", "rm", "sleep", "mkdir", "chown", "ln")
_LONGEST = 1.2  # seconds until a kill

DOCKERFILES = (
    "FROM busybox\nRUN echo {word} > /a\n",
    "FROM busybox\nCOPY d /d\nRUN rm /d/x && echo {word} > /d/z\n",
    "FROM busybox AS one\nRUN head -c 200000 /dev/urandom > /big\nFROM busybox\nCOPY --from=one /big /big\nRUN chown 5:6 /big\n",
    "FROM busybox\nRUN --mount=type=cache,target=/c echo {word} >> /c/f; cat /c/f > /f\nCOPY d/x /x\n",
    "FROM busybox\nRUN mkdir /m && ln -s /m /l && rm -r /srv\nWORKDIR /w/{word}\nENV A={word}\n",
    "FROM busybox\nRUN sleep 0.2; echo {word} > /s\nCOPY --link d /d\n",
)


class Broken(Exception):
    """A promise was not kept."""


class Soak:
    """One backend's worker. *directory* is its own; *seed* makes its choices repeatable, as far as times are."""

    def __init__(self, backend: str, directory: Path, seed: int) -> None:
        self.backend = backend
        self.directory = directory
        self.random = random.Random(f"{backend}-{seed}")
        self.counts: Counter[str] = Counter()
        self.names: dict[str, str] = {}  #: name to digest, as the last look found it
        self.unsure: set[str] = set()  #: names that a killed command was about to change
        (directory / "home").mkdir()
        self.temporary = directory / "tmp"
        self.temporary.mkdir()
        self.img = Img(directory / "state", directory / "home", (("TMPDIR", str(self.temporary)),))
        self.context = write_context(directory / "context", "", {"d/x": "x" * 3000, "d/deep/y": "y" * 50_000})
        self.archive = write_oci_archive(
            directory / "base.tar", [busybox_root(*_TOOLS)], name=BASE, config=BUSYBOX_CONFIG
        )

    # --------------------------------------------------------------------------------------------- choosing commands

    def choose(self) -> tuple[str, list[str]]:
        """Return the name that a random command may change (perhaps none), and its words."""
        makers: list[tuple[int, Callable[[], tuple[str, list[str]]]]] = [
            (8, self._build),
            (2, self._tag),
            (2, self._remove),
            (2, lambda: ("", ["prune", *self.random.choice([[], ["-a"], ["--keep-storage", "1MB"]])])),
            (1, lambda: (BASE, ["load", "-i", str(self.archive)])),
            (1, lambda: ("", ["save", "-o", str(self.directory / "saved.tar"), self._present()])),
            (1, lambda: ("", ["unpack", "--force", "-o", str(self.directory / "rootfs"), self._present()])),
            (1, lambda: ("", [self.random.choice(["ls", "du"])])),
            (1, lambda: ("", ["inspect", self._present()])),
            (1, lambda: ("", ["fsck", "--repair"])),
        ]
        weights = [weight for weight, _maker in makers]
        return self.random.choices([maker for _weight, maker in makers], weights)[0]()

    def _present(self) -> str:
        return self.random.choice(sorted(self.names) or [BASE])

    def _build(self) -> tuple[str, list[str]]:
        name = self.random.choice(NAMES)
        path = self.directory / f"Dockerfile{self.random.randrange(3)}"
        path.write_text(self.random.choice(DOCKERFILES).format(word=f"w{self.random.randrange(40)}"))
        flags = self.random.choice([[], [], ["--no-cache"], ["-o", f"type=oci,dest={self.directory / 'out.tar'}"]])
        return name, ["build", "--backend", self.backend, "-t", name, "-f", str(path), *flags, str(self.context)]

    def _tag(self) -> tuple[str, list[str]]:
        name = self.random.choice(NAMES)
        return name, ["tag", self._present(), name]

    def _remove(self) -> tuple[str, list[str]]:
        name = self.random.choice(sorted(set(self.names) - {BASE}) or [NAMES[0]])
        return name, ["rm", "-f", name]

    # ----------------------------------------------------------------------------------------------- running, looking

    def run(self, *words: str) -> Finished:
        """Run a command to its end, which must be a good one."""
        self.counts["commands"] += 1
        done = self.img.run(*words)
        if done.returncode:
            raise Broken(str(done))
        return done

    def listed(self) -> dict[str, str]:
        """Return what our names mean; others are images that lost theirs."""
        records = map(json.loads, self.run("ls", "--format", "json").text.splitlines())
        return {record["Name"]: record["Digest"] for record in records if record["Name"] in (BASE, *NAMES)}

    def step(self, orphans: Orphans) -> None:
        """Run one or two commands at once, kill perhaps one of them, and look at what is left."""
        chosen = [self.choose() for _ in range(self.random.choice([1, 1, 2]))]
        logs = [self.directory / f"log{number}" for number in range(len(chosen))]
        running = [self.img.start(*words, log=log) for (_name, words), log in zip(chosen, logs, strict=True)]
        self.counts["commands"] += len(running)
        killed = self.random.random() < 0.6 and self._kill(running[0])
        for process, (_name, words), log in zip(running, chosen, logs, strict=True):
            status = process.wait(300)
            if status not in (0, -signal.SIGKILL if killed and process is running[0] else 0) and len(chosen) == 1:
                raise Broken(f"{' '.join(words)}: status {status}\n{log.read_text(errors='replace')}")
            if status > 1 and status not in (4, 7):  # beside another one it may miss what that removed
                raise Broken(f"{' '.join(words)}: status {status}\n{log.read_text(errors='replace')}")
            if "Traceback" in log.read_text(errors="replace"):
                raise Broken(log.read_text(errors="replace"))
        orphans.gone(seconds=10)
        may_change = {name for name, _words in chosen}
        if any(words[0] == "fsck" for _name, words in chosen):  # it completes what was killed
            may_change |= self.unsure
        if killed:
            self.unsure.add(chosen[0][0])
        self.look(may_change, killed=killed)

    def _kill(self, process: subprocess.Popen[bytes]) -> bool:
        try:
            process.wait(self.random.uniform(0.02, _LONGEST))
        except subprocess.TimeoutExpired:
            whole_group = self.random.random() < 0.5
            (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
            self.counts["kills"] += 1
            return True
        return False

    def look(self, may_change: set[str], *, killed: bool) -> None:
        """Insist on what must hold now."""
        found = self.listed()
        for name in self.names.keys() | found.keys():
            if name not in may_change and self.names.get(name) != found.get(name):
                raise Broken(f"{name} was {self.names.get(name)} and is {found.get(name)}")
        self.names = found
        if killed:
            self.run("fsck", "--read-data")
            self.counts["checks"] += 1
            self.run("du")  # in the namespace, where what is left can be removed
        if left := [path.name for path in (self.img.state / "run").iterdir()]:
            if not killed:
                raise Broken(f"left in run: {left}")
            self.counts["left"] += 1
            raise Broken(f"left in run after another command: {left}")
        if left := [path.name for path in self.temporary.iterdir()]:
            raise Broken(f"left in the temporary directory: {left}")
        if str(self.img.state) in Path("/proc/self/mountinfo").read_text():
            raise Broken("a mount is left")
        if BASE not in found:
            self.run("load", "-i", str(self.archive))
            self.names = self.listed()

    def go(self, until: float) -> None:
        """Work until the clock of time.monotonic says *until*. Raises Broken."""
        self.run("load", "-i", str(self.archive))
        self.names = self.listed()
        with Orphans() as orphans:
            while time.monotonic() < until:
                self.step(orphans)
        wait_until(lambda: not list((self.img.state / "run").iterdir()), "nothing runs")


def work(backend: str, directory: Path, arguments: argparse.Namespace) -> int:
    """Be one worker; print the figures and return the exit status."""
    soak = Soak(backend, directory, arguments.seed)
    started = time.monotonic()
    status, how = 0, "ok"
    try:
        with commands_in_forks(
            environment(directory / "home")
        ):  # those that look; what may be killed is started as people do
            soak.go(started + arguments.minutes * 60)
        remove_as_mapped_root(soak.img.state)
    except (Broken, AssertionError) as err:
        status, how = 1, f"BROKEN (state kept in {directory}): {err}"
    figures = ", ".join(f"{soak.counts[name]} {name}" for name in ("commands", "kills", "checks"))
    print(f"{backend}: {figures} in {time.monotonic() - started:.0f} s: {how}", flush=True)
    return status


@contextmanager
def directories(count: int) -> Iterator[list[Path]]:
    """Give directories that stay only if something in them is left, as it does for a broken state."""
    made = [Path(tempfile.mkdtemp(prefix="img-soak-", dir="/var/tmp")) for _ in range(count)]
    yield made
    for directory in made:
        if not (directory / "state").exists():
            remove_as_mapped_root(directory)


def main() -> None:
    """Start one process for each backend and wait for all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--backend", choices=[*BACKENDS, "all"], default="all")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    wanted = BACKENDS if arguments.backend == "all" else [arguments.backend]
    if "fuse-overlayfs" in wanted and importlib.util.find_spec("img_snapshotter_fuse") is None:
        print("fuse-overlayfs: not installed (plugins/img-snapshotter-fuse)", flush=True)
        wanted = [backend for backend in wanted if backend != "fuse-overlayfs"]
    print(f"seed {arguments.seed}", flush=True)
    with directories(len(wanted)) as made:
        children = []
        for backend, directory in zip(wanted, made, strict=True):
            child = os.fork()
            if child == 0:
                os._exit(work(backend, directory, arguments))
            children.append(child)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(int(any(statuses)))


if __name__ == "__main__":
    main()
