"""Cache mounts where nothing can be mounted: their directory goes into the tree of a step, so it is at one place at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.host import AS_ROOT
from harness.unmodified import Box


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, busybox_archive: Path) -> Iterator[Box]:
    made = Box.make(tmp_path_factory.mktemp("box") / "layer", "root", busybox_archive)
    yield made
    made.remove()


def stage(name: str, *mounts: str) -> str:
    flags = " ".join(f"--mount=type=cache,{mount}" for mount in mounts)
    return f"FROM busybox AS {name}\nRUN {flags} touch /one/{name} /two/{name} && sleep 0.3 && touch /made\n"


def together(*stages: str) -> str:
    """Return a Dockerfile whose last step finds what the steps of all *stages* put into the caches."""
    names = [text.split()[3] for text in stages]
    made = "".join(f"COPY --from={name} /made /{name}\n" for name in names)
    shown = "RUN --mount=type=cache,id=one,target=/one --mount=type=cache,id=two,target=/two,readonly ls /one /two > /found\n"
    return f"{''.join(stages)}FROM busybox\n{made}{shown}"


def found(box: Box, output: str) -> list[str]:
    return sorted(set(box.inside(f"{output}/found").read_text().split()) - {"/one:", "/two:"})


@pytest.mark.parametrize("sharing", ["shared", "locked"])
def test_steps_of_a_build_take_turns(box: Box, sharing: str) -> None:
    one, two = (f"id={name},target=/{name},sharing={sharing}" for name in ("one", "two"))
    box.put("/turns/Dockerfile", together(stage("a", one, two), stage("b", two, one), stage("c", one, two)))
    build = "img build --no-cache -o type=local,dest=/turns/out /turns"
    box.shell(f"rm -rf /turns/out; img prune -af >/dev/null; {build}").ok()
    assert found(box, "/turns/out") == ["a", "b", "c"]


def test_steps_of_two_builds_take_turns(box: Box) -> None:
    one, two = ("id=first,target=/one", "id=second,target=/two")
    for name, mounts in {"x": (one, two), "y": (two, one)}.items():
        box.put(f"/{name}/Dockerfile", stage(name, *mounts))
    box.put("/both/Dockerfile", "FROM busybox\nRUN --mount=type=cache,id=first,target=/one ls /one > /found\n")
    box.shell("img build /x & first=$!; img build /y; wait $first; img build -o type=local,dest=/both/out /both").ok()
    assert found(box, "/both/out") == ["x", "y"]


def test_one_cache_at_two_places_is_one_line(box: Box) -> None:
    box.put("/twice/Dockerfile", stage("a", "id=one,target=/one", "id=one,target=/two"))
    done = box.shell("img build --no-cache /twice", timeout=30)
    assert done.returncode != 0
    assert "at one place at a time" in done.stderr


#: Kills builds whose step has two caches, one in the other; the next build comes after that, or waits already. Prints what is wrong.
KILLER = """
import glob, json, os, signal, sys, time
from img_core.cli import main
import img_core.cli._frame, img_core.cli.build, img_core.api.session, img_executor_swap._executor, img_executor_chroot._executor
place, state, moments = sys.argv[1], sys.argv[2], int(sys.argv[3])

def start(kind, moment):
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        output = os.open(place + "/log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        for fd in 0, 1, 2:
            os.dup2(output, fd)
        try:
            main(["-s", state, "build", "-q", "--build-arg", f"moment={moment}", "--build-arg", "kind=" + kind, place])
        finally:
            sys.stdout.flush()
            os._exit(sys.exc_info()[1].code if isinstance(sys.exc_info()[1], SystemExit) else 99)
    return pid

def end(pid):
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        sys.exit(open(place + "/log").read())

others = glob.glob(state + "/cache-mounts/*")

def there():
    return set(glob.glob(state + "/cache-mounts/*")).difference(others)

def kept():
    return {path: os.listdir(path) for path in there()}

end(start("whole", "first"))
caches = kept()
started = time.monotonic()
end(start("whole", "second"))
seconds, done, wrong = time.monotonic() - started, ["first", "second"], []
for moment in range(moments):
    killed = start(("whole", "endless")[moment % 2], f"killed {moment}")
    if moment % 2:
        while len(there()) == len(caches):
            time.sleep(0.001)
    time.sleep(seconds * moment / moments / (1 + moment % 2))
    waiting = start("whole", f"after {moment}") if moment % 4 > 1 else 0
    if waiting:
        time.sleep(seconds / 2)
    os.kill(killed, signal.SIGKILL)
    os.waitpid(killed, 0)
    end(waiting or start("whole", f"after {moment}"))
    done.append(f"after {moment}")
    for directory in caches:
        lines = open(directory + "/log").read().splitlines()
        if [line for line in lines if "killed" not in line] != done or len(set(lines)) < len(lines):
            wrong.append((moment, directory, lines))
    if kept() != caches:
        wrong.append((moment, kept()))
print(json.dumps(wrong))
"""


@pytest.mark.parametrize("kind", ["root", "cri-o-root"])
def test_a_killed_build_loses_no_cache(box: Box, tmp_path: Path, busybox_archive: Path, kind: str) -> None:
    """By chroot and by swap: the cache has its old content, or also what the killed step had written."""
    if kind != box.kind:
        box = Box.make(tmp_path / "layer", kind, busybox_archive)
    place = f"{box.home}/in/lost"
    caches = "--mount=type=cache,id=outer,target=/c --mount=type=cache,id=inner,target=/c/inner"
    step = 'echo "$moment" | tee -a /c/log >> /c/inner/log && touch /made && test $kind = whole || sleep 1000'
    box.put(f"{place}/Dockerfile", f"FROM busybox\nARG moment kind\nRUN {caches} {step}\n")
    box.put(f"{place}/killer.py", KILLER)
    situation = box.img().situation
    assert situation is not None
    command = situation.wrap(sys.executable, f"{place}/killer.py", place, str(box.img().state), "8" if AS_ROOT else "4")
    done = subprocess.run(command, capture_output=True, text=True, env=box.environment(), timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
    if kind != "root":
        box.remove()
