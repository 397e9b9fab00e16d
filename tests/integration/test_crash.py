"""Killed, or out of disk, at any instant: what is listed is complete, the next command works, and nothing is left behind.

All changes of the disk are numbered (`img_core.files.faults`), so that most of this enumerates instead of sampling.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.bases import BUSYBOX_CONFIG, busybox_root, write_oci_archive
from harness.containers import skopeo
from harness.fixtures import NewState, load
from harness.fork_commands import ForkCommands, Outcome
from harness.host import AS_ROOT, need
from harness.img import Img, copy_as_mapped_root, environment, remove_as_mapped_root, write_context
from harness.processes import Orphans
from img_core.testing.faulty_registry import FaultyRegistry
from img_core.testing.images import make_image
from img_core.testing.registry import DockerRegistry

pytestmark = [pytest.mark.rootless, pytest.mark.slow]

BUSYBOX = "docker.io/library/busybox:latest"
BUILT = "docker.io/library/built:latest"
DOCKERFILE = """\
FROM busybox AS one
RUN echo one > /one && chown 5:6 /one && rm /etc/motd
FROM busybox
COPY --from=one /one /w/
COPY d/ /w/d/
"""
RETRY_EVERY = 3  #: after how many failures the whole command is run again: it takes most of the time
MOST = 2000  #: no command needs as many changes of the disk


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ForkCommands]]:
    """Two servers: one for each processor of a small machine."""
    variables = environment(tmp_path_factory.mktemp("forked-home"), IMG_SYNC="0")
    with ForkCommands(variables) as one, ForkCommands(variables) as two:
        yield [one, two]


@pytest.fixture(scope="module")
def small_seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a state directory whose ``busybox`` has few files, because each of them is a change of the disk."""
    directory = tmp_path_factory.mktemp("small-seed")
    layers = [busybox_root("sh", "echo", "chown", "rm")]
    archive = write_oci_archive(directory / "base.tar", layers, name=BUSYBOX, config=BUSYBOX_CONFIG)
    load(directory / "state", archive, directory)
    return directory / "state"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    return write_context(directory, DOCKERFILE, {"d/x": "x", "d/deep/y": "y" * 100_000})


class Trial:
    """One command, tried with one fault after the other, each time in a fresh copy of *seed*."""

    def __init__(self, forked: ForkCommands, state: Path, seed: Path, command: str, **arguments: Any) -> None:
        self.forked = forked
        self.state = state
        self.seed = seed
        self.garbage: list[str] = []  #: what was on the disk without a name at the last `listed`
        self.command = command
        self.arguments = arguments

    def fresh(self) -> None:
        if self.state.exists():
            remove_as_mapped_root(self.state)
        if (self.seed / "snapshots").exists():
            copy_as_mapped_root(self.seed, self.state)
        else:
            shutil.copytree(self.seed, self.state)

    def run(self, **faults: int) -> Outcome:
        return self.forked.run(self.command, self.state, **self.arguments, **faults)

    def listed(self) -> dict[str, str]:
        """Return names and digests, after reading everything that is listed."""
        checked = self.forked.run("check", self.state).ok()
        assert checked.value["integrity"] == "ok"
        self.garbage = checked.value["garbage"]
        return dict(checked.value["listed"])

    def left(self) -> list[str]:
        """Return what a command must not leave behind."""
        run = self.state / "run"
        return [path.name for path in run.iterdir()] if run.exists() else []

    def undisturbed(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return what is listed before and after a run without faults."""
        self.fresh()
        before = self.listed()
        self.run().ok()
        return before, self.listed()

    def close(self) -> None:
        if self.state.exists():
            remove_as_mapped_root(self.state)


@pytest.fixture
def trials(forked: list[ForkCommands], tmp_path: Path, small_seed: Path) -> Iterator[Any]:
    """Give a maker of equal trials, one per server."""
    made: list[Trial] = []

    def make(command: str, *, base: Path = small_seed, **arguments: Any) -> list[Trial]:
        states = (tmp_path / f"trial{number}" for number in range(len(forked)))
        new = [Trial(server, state, base, command, **arguments) for server, state in zip(forked, states, strict=False)]
        made.extend(new)
        return new

    yield make
    for trial in made:
        trial.close()


def with_every_number(trials: list[Trial], attempt: Callable[[Trial, int], bool], step: int = 1) -> int:
    """Call *attempt* with 1, 2, 3… until it says that there is no such change of the disk; return how many there are."""
    numbers = itertools.count(1, step)
    beyond: list[int] = []

    def work(trial: Trial) -> None:
        while not beyond:
            number = next(numbers)
            assert number < MOST
            if not attempt(trial, number):
                beyond.append(number)

    with ThreadPoolExecutor(len(trials)) as pool:
        for finished in [pool.submit(work, trial) for trial in trials]:
            finished.result()
    return min(beyond) - 1


def enumerate_crashes(trials: list[Trial], *, repeatable: bool = True, step: int = 1, retry_every: int = 1) -> int:
    """Crash at every change of the disk (or every *step*-th); return how many there are.

    The state is looked at after every crash, the whole command is run again after every *retry_every*-th.
    """
    before, after = trials[0].undisturbed()

    def attempt(trial: Trial, number: int) -> bool:
        trial.fresh()
        outcome = trial.run(crash_at=number)
        if outcome.status == 0:
            return False
        found = trial.listed()
        assert found.keys() in (before.keys(), after.keys()), f"at {number}: {found}"
        assert trial.left() == [], f"at {number}"
        if number % retry_every:
            return True
        if repeatable or found.keys() == before.keys():
            again = trial.run()
            assert again.status == 0, f"after a crash at {number}: {again}"
        assert trial.listed().keys() == after.keys(), f"at {number}"
        assert trial.left() == [], f"at {number}"
        if trial.garbage:
            trial.forked.run("prune", trial.state).ok()
            assert trial.listed().keys() == after.keys(), f"at {number}"
            assert trial.garbage == [], f"at {number}"
        return True

    return with_every_number(trials, attempt, step)


def enumerate_failures(trials: list[Trial], error: int, *, step: int = 1) -> int:
    """Let every change of the disk (or every *step*-th) fail with *error*; return how many there are."""
    before, after = trials[0].undisturbed()
    text = os.strerror(error).lower()

    def attempt(trial: Trial, number: int) -> bool:
        trial.fresh()
        outcome = trial.run(fail_at=number, error=error)
        if outcome.mutations < number:
            assert outcome.status == 0
            return False
        if outcome.status != 0:  # a change that need not succeed may fail without harm
            assert outcome.status == 1, f"at {number}: {outcome}"
            assert outcome.code in (1, 4, 7), f"at {number}: {outcome}"
            assert "\n" not in outcome.error, f"at {number}: {outcome}"
            assert text in outcome.error.lower(), f"at {number}: {outcome}"
            assert trial.left() == [], f"at {number}"
        found = trial.listed()
        assert found.keys() in (before.keys(), after.keys()), f"at {number}: {found}"
        assert trial.garbage == [], f"space is not given back at {number}"
        if number % RETRY_EVERY == 0:
            again = trial.run()
            assert again.status == 0, f"after a failure at {number}: {again}"
            assert trial.listed().keys() == after.keys(), f"at {number}"
        return True

    return with_every_number(trials, attempt, step)


@pytest.mark.parametrize("backend", ["overlayfs", "moving", "native"])
def test_build_survives_a_crash_at_every_change_of_the_disk(trials: Any, context: Path, backend: str) -> None:
    trial = trials("build", context=str(context), tags=["built"], backend=backend)
    if backend == "overlayfs":
        assert enumerate_crashes(trial, retry_every=2) > 30
    else:
        assert enumerate_crashes(trial, step=5) > 30


def test_build_survives_a_full_disk_at_every_change_of_it(trials: Any, context: Path) -> None:
    assert enumerate_failures(trials("build", context=str(context), tags=["built"]), errno.ENOSPC) > 30


@pytest.mark.registry
def test_pull_survives_a_crash_at_every_change_of_the_disk(trials: Any, tmp_path: Path) -> None:
    with DockerRegistry(tmp_path / "registry") as registry:
        archive = write_oci_archive(tmp_path / "pushed.tar", [busybox_root("sh"), busybox_root("ls")], name="x:1")
        name = f"{registry.address}/pulled:1"
        skopeo("copy", "-q", "--dest-tls-verify=false", f"oci-archive:{archive}", f"docker://{name}")
        assert enumerate_crashes(trials("pull", name=name)) > 8


@pytest.mark.registry
def test_build_that_leaves_its_base_in_a_registry_survives_a_crash_at_every_change_of_the_disk(
    trials: Any, tmp_path: Path
) -> None:
    with FaultyRegistry() as registry:
        base = make_image([{"one": b"1"}, {"two": b"2"}])
        registry.add("base", "1", base)
        text = f"FROM {registry.address}/base:1\nENV A=1\n"
        context = write_context(tmp_path / "context", text)
        assert enumerate_crashes(trials("build", context=str(context), tags=["built"]), retry_every=2) > 8
        asked = {item.path.rpartition("/")[2] for item in registry.asked("^GET .*/blobs/")}
        assert not asked & {layer.digest for layer in base.layers}


def test_load_survives_a_crash_at_every_change_of_the_disk(trials: Any, tmp_path: Path) -> None:
    archive = write_oci_archive(
        tmp_path / "loaded.tar", [busybox_root()], name="docker.io/library/loaded:1", config={"Cmd": ["x"]}
    )
    assert enumerate_crashes(trials("load", archive=str(archive))) > 5


def test_tag_survives_a_crash_at_every_change_of_the_disk(trials: Any) -> None:
    assert enumerate_crashes(trials("tag", name=BUSYBOX, new="docker.io/library/other:1")) >= 2


def test_rm_survives_a_crash_at_every_change_of_the_disk(trials: Any) -> None:
    assert enumerate_crashes(trials("rm", name=BUSYBOX), repeatable=False) >= 2


def test_prune_survives_a_crash_at_every_change_of_the_disk(trials: Any, context: Path, tmp_path: Path) -> None:
    """It takes away what nobody needs, so that is what it is run on: a build whose image lost its name, and one that kept it."""
    builder, _ = trials("build", context=str(context), tags=["built"])
    builder.fresh()
    builder.run().ok()
    write_context(context, DOCKERFILE.replace("echo one", "echo two"))
    builder.run().ok()
    base = tmp_path / "pruned"
    builder.state.rename(base)
    try:
        assert enumerate_crashes(trials("prune", base=base, policy={})) > 5
    finally:
        remove_as_mapped_root(base)


def test_save_survives_a_crash_at_every_change_of_the_disk(trials: Any, tmp_path: Path) -> None:
    dest = tmp_path / "saved" / "image.tar"
    dest.parent.mkdir()
    trial = trials("save", name=BUSYBOX, dest=str(dest))[0]
    trial.fresh()
    trial.run().ok()
    whole = dest.read_bytes()
    for number in range(1, MOST):
        dest.unlink(missing_ok=True)
        if trial.run(crash_at=number).status == 0:
            assert number > 2
            return
        assert not dest.exists() or dest.read_bytes() == whole, f"half an archive after a crash at {number}"
    raise AssertionError("endless")


# --- without numbers: signals and a real disk


SLOW = """\
FROM busybox
RUN echo {marker} > /a; head -c 3000000 /dev/urandom > /b
COPY d/ /d/
RUN sleep 0.05; rm -r /d/deep; echo {marker}
"""


@pytest.mark.parametrize("whole_group", [False, True], ids=["main process", "process group"])
def test_build_survives_kill_9_at_25_random_moments(img: Img, context: Path, tmp_path: Path, whole_group: bool) -> None:
    rng = random.Random(f"kill-{whole_group}")
    with Orphans() as orphans:
        for number in range(25):
            marker = f"kill{os.getpid()}x{number}"
            write_context(context, SLOW.format(marker=marker))
            builder = img.start("build", "-t", "never", context, log=tmp_path / "log")
            try:
                builder.wait(rng.uniform(0.05, 0.9))
            except subprocess.TimeoutExpired:
                (os.killpg if whole_group else os.kill)(builder.pid, signal.SIGKILL)
                builder.wait()
            orphans.gone(marker)
            listed = img.names()
            assert [name for name in listed if name != "docker.io/library/never:latest"] == [BUSYBOX]
            assert str(img.state) not in Path("/proc/self/mountinfo").read_text()
    write_context(context, DOCKERFILE)
    img.build(context).ok()
    assert list((img.state / "run").iterdir()) == []
    img.run("save", "-o", tmp_path / "whole.tar", "built").ok()


FULL_DISK = """
import os, subprocess, sys
disk, command = sys.argv[1], sys.argv[2:]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk], check=True)
subprocess.run(["cp", "-a", os.environ["SEED"], disk + "/state"], check=True)
def used():
    stat = os.statvfs(disk)
    return (stat.f_blocks - stat.f_bfree) * stat.f_frsize
before = used()
for name in ("large", "small"):
    done = subprocess.run([*command, name], capture_output=True, text=True)
    said = "no space left on device" in done.stderr.lower()
    errors = [line for line in done.stderr.splitlines() if line.startswith(("Error:", "Trace"))]
    print(name, done.returncode, used() - before, said, errors)
"""


@pytest.mark.parametrize("step", ["RUN dd if=/dev/urandom of=/big bs=1M count=30", "COPY big /big"])
def test_really_full_disk_is_one_line_and_gives_the_space_back(img: Img, tmp_path: Path, step: str) -> None:
    need("unshare", "mount")
    for name, text in {"large": f"FROM busybox\n{step}\n", "small": "FROM busybox\nRUN echo fits > /small\n"}.items():
        (tmp_path / name).mkdir()
        write_context(tmp_path / name, text, {"big": os.urandom(30_000_000)} if name == "large" else {})
    disk = tmp_path / "disk"
    disk.mkdir()
    there = Img(disk / "state", img.home, img.changes)
    enter = ["unshare", "--mount"] if AS_ROOT else ["unshare", "--user", "--map-root-user", "--map-auto", "--mount"]
    done = subprocess.run(
        [*enter, sys.executable, "-c", FULL_DISK, disk, *there.command("build", "-t", "built")],
        env={**there.environment(), "SEED": str(img.state)}, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    large, small = done.stdout.splitlines()
    assert large.startswith(("large 1 ", "large 4 ")), done.stdout
    assert large.split()[3] == "True", "the step or img says why"
    assert large.count("Error:") == 1
    assert "Trace" not in large
    assert int(large.split()[2]) < 2_500_000, f"space was not given back: {large}"
    assert small.startswith("small 0 "), small


def test_damaged_database_is_rebuilt_from_the_blobs(new_state: NewState, context: Path) -> None:
    img = new_state("damaged")
    img.build(context).ok()
    digest = img.digest("built")
    (img.state / "img.db").write_bytes(b"no database" * 1000)
    for suffix in ("-wal", "-shm"):
        (img.state / f"img.db{suffix}").unlink(missing_ok=True)
    assert "damaged" in img.build(context, tag="after").ok().stderr
    assert BUILT in img.names()
    assert img.digest("built") == digest
