"""Builds with an engine: the same image as without, whatever becomes of the workers."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.host import AS_ROOT
from harness.img import Finished, Img, remove_as_mapped_root, write_context
from harness.processes import descendants, wait_until
from img_core.testing.registry import DockerRegistry
from integration.test_platforms import BUSYBOX, busybox_context

pytestmark = [pytest.mark.rootless, pytest.mark.registry]
pytest_plugins = ["img_core.testing.fixtures"]

EPOCH = ("--build-arg", "SOURCE_DATE_EPOCH=1700000000")
PLUGIN = "from img_lib_engines.processes import engine_plugin\nimg_engine = engine_plugin()\n"
DOCKERFILE = """\
FROM BASE AS base
RUN echo base > /base; touch -r /bin/busybox /base
FROM base AS one
COPY --chmod=640 src /src
RUN echo the first; cat /src/a /base > /out; touch -r /bin/busybox /out
FROM base AS two
RUN --mount=type=bind,source=src,target=/from cat /from/b > /out; touch -r /bin/busybox /out
FROM base AS three
RUN cat /base /base > /out; touch -r /bin/busybox /out
FROM BASE
RUN echo own > /own; touch -r /bin/busybox /own
COPY --from=one /out /one
COPY --from=two /out /two
COPY --from=three /out /three
"""
#: Two stages that are worth to be handed out, and no more: for what is built often.
SMALL = """\
FROM BASE AS one
RUN sleep 0.2; echo 1 > /out; touch -r /bin/busybox /out
FROM BASE AS two
RUN sleep 0.2; echo 2 > /out; touch -r /bin/busybox /out
FROM scratch
COPY --from=one /out /1
COPY --from=two /out /2
"""
FILES: dict[str, bytes | str] = {"src/a": "A\n", "src/b": "B\n", ".dockerignore": "hidden\n", "hidden": "x"}


@dataclass
class Machines:
    """This machine, and a state directory for each worker; *engine* says which."""

    img: Img
    directory: Path
    base: str  #: the name of ``busybox`` in a registry

    def build(self, context: Path, *arguments: str | Path, engine: str = "", workers: str = "a;b") -> Finished:
        self.prepare(context)
        chosen = f"processes,states={self.directory}/workers,workers={workers}{engine}"
        return self.img.build(context, "--engine", chosen, "--explain", "--progress", "plain", *EPOCH, *arguments)

    def prepare(self, context: Path) -> None:
        """Let the Dockerfile of *context* name a base that all machines can have."""
        text = (context / "Dockerfile").read_text()
        (context / "Dockerfile").write_text(text.replace("FROM BASE", f"FROM {self.base}"))

    def forget(self) -> None:
        """Let this machine and the cache forget all steps; the workers keep theirs."""
        self.img.run("prune", "-a", "-f").ok()
        shutil.rmtree(self.img.state / "engine-cache", ignore_errors=True)


@pytest.fixture
def machines(img: Img, tmp_path: Path, registry: DockerRegistry) -> Iterator[Machines]:
    plugin = tmp_path / "engine-processes.py"
    plugin.write_text(PLUGIN)
    base = f"{registry.address}/busybox"
    img.run("tag", "busybox", base).ok()
    img.run("push", base).ok()
    yield Machines(img.with_flags("--plugin", str(plugin)), tmp_path, base)
    remove_as_mapped_root(tmp_path / "workers")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_context(tmp_path / "context", DOCKERFILE, FILES)


def local(machines: Machines, new_state: Callable[[str], Img], context: Path) -> str:
    """Return the digest of the image that one machine alone makes."""
    file = machines.directory / "digest"
    if not file.exists():
        machines.prepare(context)
        alone = new_state("alone")
        alone.build(context, *EPOCH).ok()
        file.write_text(alone.digest("built"))
    return file.read_text()


def ran_on(done: Finished) -> dict[str, str]:
    """Return where each step ran that ran, by its instruction."""
    lines = [line[6:].partition(": ") for line in done.stderr.splitlines() if line.startswith("ran   [")]
    return {
        name.partition("] ")[2]: place.removeprefix("on ").partition(":")[0] if place.startswith("on ") else "here"
        for name, _, place in lines
    }


def test_workers_do_stages_and_the_image_is_that_of_one_machine(
    machines: Machines, new_state: Callable[[str], Img], context: Path
) -> None:
    dry = machines.build(context, engine=",dry-run").ok().text
    parts = sorted(line.partition(" RUN ")[2].partition(";")[0] for line in dry.splitlines()[:-1])
    assert parts == [
        "--mount=type=bind,source=src,target=/from cat /from/b > /out",
        "cat /base /base > /out",
        "echo base > /base",
        "echo own > /own",
        "echo the first",
    ]
    assert "/out: 1 steps, nobody knows how long, linux/amd64, after [base 2/2] RUN echo base" in dry
    assert dry.splitlines()[-1] == "here: 3 steps"
    assert not any("built" in name for name in machines.img.names()), "a dry run builds nothing"

    first = machines.build(context, engine=",home=0").ok()
    assert machines.img.digest("built") == local(machines, new_state, context)
    places = ran_on(first)
    assert {places[name] for name in places if name.startswith("RUN")} <= {"a", "b"}, str(first)
    assert {places[name] for name in places if name.startswith("COPY --from")} == {"here"}, str(first)
    assert "warning" not in first.stderr
    assert "the first" in machines.img.run("logs", "last").ok().text

    again = machines.build(context).ok()
    assert ran_on(again) == {}
    assert machines.img.digest("built") == local(machines, new_state, context)

    # Other workers, and a cache in a registry.
    machines.forget()
    third = machines.build(context, workers="c;d", engine=f",home=0,cache={machines.base}:cache").ok()
    assert set(ran_on(third).values()) == {"c", "d", "here"}
    assert machines.img.digest("built") == local(machines, new_state, context)
    assert "warning" not in third.stderr, str(third)

    listed = machines.img.run(
        "engines", "ls", "--format", "{{.Worker}} {{.Tasks}}", "processes,workers=x;y=linux/arm64"
    )
    assert listed.ok().text == "x 1\ny 1\n"


def wrapper(directory: Path, program: str = "") -> str:
    """Return the option that lets *program* (Python; ``text`` is the task, ``worker`` a name) stand before ``img worker``.

    It notes each task that begins, see `tasks_of`.
    """
    path = directory / "worker.py"
    path.write_text(
        "import json, os, signal, subprocess, sys, time\n"
        "text, worker = sys.stdin.buffer.read().decode(), os.environ['IMG_TEST_WORKER']\n"
        f"states, prefix = {str(directory / 'workers')!r}, []\n"
        "note = json.dumps([os.getpid(), worker, json.loads(text)['roots']]) + '\\n'\n"
        f"os.write(os.open({str(directory / 'tasks')!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), note.encode())\n"
        f"{program}\n"
        "command = [*prefix, sys.executable, '-m', 'img_core', '-s', f'{states}/{worker}', 'worker', '-']\n"
        "sys.exit(subprocess.run(command, input=text.encode()).returncode)\n"
    )
    return f",command={sys.executable} {path}"


def tasks_of(directory: Path) -> list[tuple[int, str, tuple[str, ...]]]:
    """Return of each task that began its process, its worker and what it was to make, in order."""
    path = directory / "tasks"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(pid, worker, tuple(roots)) for pid, worker, roots in map(json.loads, lines)]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", "status -9", id="it-is-killed"),
        pytest.param("text = text.replace('\"keys\":', '\"keys\":9')", "a task of version", id="another-version-of-img"),
        pytest.param(
            "d = json.loads(text); d['target'][1]['dest'] = '/etc/hostname/cache'; text = json.dumps(d)",
            "/etc/hostname", id="the-cache-cannot-be-written",
        ),
        pytest.param(
            "d = json.loads(text); d['source'] = d['target'] = ['registry', {'ref': '127.0.0.1:9/no:cache'}]; text = json.dumps(d)",
            "127.0.0.1:9", id="the-cache-cannot-be-reached",
        ),
        pytest.param("states = '/etc/hostname'", "/etc/hostname", id="no-place-for-its-state"),
        pytest.param(
            "states = 'DISK'; prefix = ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs -o size=2m none DISK; exec \"$@\"', 'sh']",
            "no space left on device", id="its-disk-is-full",
        ),
        pytest.param("sys.exit(0)", "it was lost", id="it-says-nothing"),
    ],
)  # fmt: skip
def test_what_a_worker_does_not_do_is_done_elsewhere(
    machines: Machines, new_state: Callable[[str], Img], context: Path, tmp_path: Path, program: str, said: str
) -> None:
    """One line says for each task why worker `a` did not do it, and the image is the same."""
    (tmp_path / "disk").mkdir()
    program = "if worker == 'a':\n " + program.replace("DISK", f"{tmp_path}/disk")
    done = machines.build(context, engine=f",home=0{wrapper(tmp_path, program)}").ok()
    assert machines.img.digest("built") == local(machines, new_state, context)
    lines = [line for line in done.stderr.splitlines() if "which is done elsewhere" in line]
    lost = [task for task in tasks_of(tmp_path) if task[1] == "a"]
    assert len(lines) == len(lost) > 0, str(done)
    assert all("a did not do `" in line and said in line for line in lines), str(done)
    assert "a" not in ran_on(done).values(), str(done)


def test_a_worker_runs_no_more_steps_at_once_than_it_may(machines: Machines, tmp_path: Path) -> None:
    """Each step fails that runs beside another one; all are given to the worker together, after a short one."""
    step = "RUN --mount=type=cache,target=/c mkdir /c/now && sleep 0.3 && rmdir /c/now && echo"
    stages = "".join(f"FROM base AS s{n}\n{step} {n} > /out\n" for n in range(3))
    copied = "".join(f"COPY --from=s{n} /out /{n}\n" for n in range(3))
    text = f"FROM BASE AS base\nRUN echo base > /base\n{stages}FROM scratch\n{copied}"
    context = write_context(tmp_path / "context", text)
    done = machines.build(context, engine=",home=0,max-parallelism=1", workers="a").ok()
    assert list(ran_on(done).values()).count("a") == 4, str(done)


def test_when_all_workers_are_killed_this_machine_does_everything(
    machines: Machines, new_state: Callable[[str], Img], context: Path, tmp_path: Path
) -> None:
    done = machines.build(context, engine=wrapper(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")).ok()
    assert machines.img.digest("built") == local(machines, new_state, context)
    assert set(ran_on(done).values()) == {"here"}, str(done)


def test_an_engine_that_cannot_be_reached_is_one_line(machines: Machines, context: Path, tmp_path: Path) -> None:
    (tmp_path / "engine-away.py").write_text(
        "from img_core.spec import ImgError, hookimpl\nfrom img_lib_engines.sharing import TaskEngine\n"
        "class Away(TaskEngine):\n    '''Never there.'''\n    name = 'away'\n    is_here = True\n"
        "    def capacity(self): raise ImgError('nobody answers at head:1')\n"
        "    def submit(self, task, tell): raise AssertionError\n    def cancel(self, handle): pass\n"
        "@hookimpl\ndef img_engine(): return Away\n"
    )
    machines.prepare(context)
    img = machines.img.with_flags("--plugin", str(tmp_path / "engine-away.py"))
    done = img.build(context, "--engine", "away").ok()
    assert "engine `away` is not used: nobody answers at head:1" in done.stderr


def test_a_step_that_fails_fails_the_build(machines: Machines, tmp_path: Path) -> None:
    text = (
        "FROM BASE AS one\nRUN echo so far; exit 7\nFROM BASE AS two\nRUN sleep 600\n"
        "FROM BASE\nCOPY --from=one / /1\nCOPY --from=two / /2\n"
    )
    began = time.monotonic()
    done = machines.build(write_context(tmp_path / "context", text), engine=",home=0")
    done.refused(4, "exit code: 7" if "exit code: 7" in done.stderr else "7")
    assert "so far" in done.stderr
    assert "Dockerfile:2" in done.stderr, str(done)
    assert "hint: it ran on" in done.stderr
    assert time.monotonic() - began < 300, "the other worker was not stopped"


def test_secrets_go_to_those_who_were_named(machines: Machines, tmp_path: Path) -> None:
    text = (
        "FROM BASE AS one\nRUN --mount=type=secret,id=it cp /run/secrets/it /out\n"
        "FROM BASE AS two\nRUN echo 2 > /out\nFROM BASE AS three\nRUN echo 3 > /out\n"
        "FROM scratch\nCOPY --from=one /out /1\nCOPY --from=two /out /2\nCOPY --from=three /out /3\n"
    )
    context = write_context(tmp_path / "context", text)
    (tmp_path / "secret").write_text("s3cr3t-value")
    secret = ("--secret", f"id=it,src={tmp_path}/secret")
    step = "RUN --mount=type=secret,id=it cp /run/secrets/it /out"
    done = machines.build(context, *secret, "-o", f"type=local,dest={tmp_path}/out", engine=",trusted=b,home=0").ok()
    assert ran_on(done)[step] == "b"
    assert (tmp_path / "out/1").read_text() == "s3cr3t-value"
    shutil.rmtree(machines.img.state / "engine-cache")
    (tmp_path / "secret").write_text("other")
    machines.img.run("prune", "-a", "-f").ok()
    done = machines.build(context, *secret, "-o", f"type=local,dest={tmp_path}/out2", engine=",home=0").ok()
    assert ran_on(done)[step] == "here"
    assert (tmp_path / "out2/1").read_text() == "other"


@pytest.mark.skipif(AS_ROOT, reason="root would have to change the host")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the other architecture is arm64")
def test_each_platform_runs_on_its_own_machine(machines: Machines, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    busybox_context(context, BUSYBOX)
    both = ("--platform", "linux/amd64,linux/arm64")
    done = machines.build(context, *both, "-o", f"type=oci,dest={tmp_path}/out.tar", workers="a;b=linux/arm64").ok()
    lines = [line for line in done.stderr.splitlines() if line.startswith("ran   [") and "internal" not in line]
    arm = [line for line in lines if "arm64" in line.partition(":")[0]]
    assert arm
    assert all(": on b:" in line for line in arm), str(done)
    assert not any(": on b:" in line for line in lines if line not in arm), str(done)
    alone = machines.img.build(context, *both, *EPOCH, "--no-cache", tag="alone").ok()
    machines.build(context, *both, workers="a;b=linux/arm64").ok()
    assert machines.img.digest("built") == machines.img.digest("alone"), str(alone)
    assert platforms_in(tmp_path / "out.tar") == [["linux/amd64", "linux/arm64"]], "one index of both"


def platforms_in(archive: Path) -> list[list[str]]:
    """Return the platforms of each index in an archive of OCI's form."""
    with tarfile.open(archive) as opened:
        tops = json.load(opened.extractfile("index.json"))["manifests"]  # type: ignore[arg-type]  # it is there
        names = [f"blobs/{top['digest'].replace(':', '/')}" for top in tops]
        indexes = [json.load(opened.extractfile(name))["manifests"] for name in names]  # type: ignore[arg-type]
    return [["/".join((it["platform"]["os"], it["platform"]["architecture"])) for it in index] for index in indexes]


#: As often as the same image has to come out whatever becomes of a worker; ``nox -s engines`` tries twenty.
ROUNDS = int(os.environ.get("IMG_TEST_KILLS", "2"))


def test_a_worker_that_is_killed_at_any_moment_changes_nothing(
    machines: Machines, new_state: Callable[[str], Img], tmp_path: Path
) -> None:
    """The image is the same each time, and nothing is done again but what the killed worker was doing."""
    context = write_context(tmp_path / "context", SMALL)
    expected = local(machines, new_state, context)
    chance, log, killed = random.Random(16), tmp_path / "log", 0
    engine = f"processes,home=0,tries=3,states={tmp_path}/workers{wrapper(tmp_path)}"
    for round_ in range(ROUNDS):
        machines.forget()
        remove_as_mapped_root(tmp_path / "workers")
        (tmp_path / "workers").mkdir()
        (tmp_path / "tasks").unlink(missing_ok=True)
        words = ("build", "-t", "built", "--engine", engine, "--progress", "plain", *EPOCH, str(context))
        running = machines.img.start(*words, log=log)
        await_worker(running)
        time.sleep(chance.random() * 1.5)
        victim = chance.choice(found) if (found := workers_of(running.pid)) else 0
        above = ancestors(victim)
        if victim:
            with suppress(ProcessLookupError):
                os.kill(victim, 9)
        assert running.wait(timeout=200) == 0, log.read_text()
        assert machines.img.digest("built") == expected, f"round {round_}\n{log.read_text()}"
        begun = tasks_of(tmp_path)
        lost = {root for pid, _, roots in begun if pid in above for root in roots}
        often = Counter(root for _, _, roots in begun for root in roots)
        assert {root for root, count in often.items() if count > 1} <= lost, f"round {round_}\n{log.read_text()}"
        assert len(often) == 2, "both stages are handed out"
        killed += "which is done elsewhere" in log.read_text()
    if ROUNDS >= 10:
        assert killed >= ROUNDS // 4, "hardly a worker was killed while it had something to do"


def await_worker(running: subprocess.Popen[bytes]) -> None:
    """Wait for a worker of a build, or for its end."""
    wait_until(lambda: bool(workers_of(running.pid)) or running.poll() is not None, "a worker", seconds=120)


def ancestors(pid: int) -> set[int]:
    """Return the processes above *pid*: what a worker starts looks like the worker."""
    found: set[int] = set()
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
        found.add(pid)
    return found


def workers_of(pid: int) -> list[int]:
    """Return the processes below *pid* that are workers."""
    found = []
    for child in descendants(pid):
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[-3:-1] == [b"worker", b"-"]:
            found.append(child)
    return found
