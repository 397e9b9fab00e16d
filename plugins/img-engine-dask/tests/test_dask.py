"""The engine of dask: the contract, on this machine and on a cluster, and whole builds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from img_engine_dask._engine import DaskEngine

from harness.img import remove_as_mapped_root, write_context
from img_core.spec import EngineTask, Host, ImgError
from img_core.testing.contracts.driver import ModuleContract
from img_core.testing.contracts.engine import EngineContract, quietly_wait, submit, wait
from img_core.testing.processes import eventually, is_alive

pytestmark = pytest.mark.filterwarnings("ignore")  # of dask


class TestModule(ModuleContract):
    kind = "engine"
    module = "img_engine_dask.plugin"


#: One test of a suite, which forks: what dask keeps in threads does not come along, so nothing of it may have been used before.
_APART = """\
import json, sys
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[1])
import test_dask
from img_core.testing.contracts.engine import EngineContract
suite = getattr(test_dask, sys.argv[2])
suite.options = json.loads(sys.argv[3])
EngineContract.test_what_runs_for_a_caller_who_was_killed_ends(suite(), Path(sys.argv[4]))
"""


class DaskContract(EngineContract):
    """The contract, in which the test that forks has a process of its own."""

    engine_class = DaskEngine

    def test_what_runs_for_a_caller_who_was_killed_ends(self, tmp_path: Path) -> None:
        places = json.dumps([str(Path(__file__).parent), *sys.path])
        words = [places, type(self).__name__, json.dumps(self.options), str(tmp_path)]
        done = subprocess.run(
            [sys.executable, "-c", _APART, *words], capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr

    def test_what_a_worker_expects_is_started_before_it_comes(self, engine: Any, tmp_path: Path) -> None:
        program, started = tmp_path / "worker.py", tmp_path / "started"
        program.write_text(
            f"import os, sys\nwith open({str(started)!r}, 'a') as file:\n    print(os.getpid(), file=file)\n"
            "sys.stdin.read()\nprint(os.getpid(), flush=True)\n"
        )
        first = engine.capacity()[0].name
        engine.expect([first])
        eventually(lambda: started.exists() and started.read_text().endswith("\n"), "the process to start")
        heard, handle = submit(engine, workers=(first,))
        wait(handle)
        assert heard == started.read_text().split()
        engine.expect([first])
        eventually(lambda: started.read_text().count("\n") == 2, "the next process to start")
        engine.close()
        if engine.is_here:
            assert not is_alive(int(started.read_text().split()[1]))


class TestHere(DaskContract):
    options: ClassVar[dict[str, Any]] = {"workers": 2}


class Cluster:
    """A scheduler and two workers, processes of their own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "scheduler.json"
        self.processes: list[subprocess.Popen[bytes]] = []
        self._start("scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1")
        eventually(lambda: self._read() != "", "the scheduler")
        self.address = self._read()
        for name, resources in (("one", ""), ("two", "linux/arm64=1")):
            declared = ("--resources", resources) if resources else ()
            self._start("worker", "--no-nanny", "--nthreads", "1", "--name", name, "--no-dashboard", *declared)

    def _start(self, what: str, *words: str) -> None:
        command = [sys.executable, "-m", "distributed.cli.dask_" + what, "--scheduler-file", str(self._file), *words]
        with (self._directory / "log").open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    command,
                    stdout=log,
                    stderr=log,
                    cwd=self._directory,
                    env={**os.environ, "TMPDIR": str(self._directory)},
                )
            )

    @property
    def log(self) -> str:
        return (self._directory / "log").read_text(errors="replace")

    def _read(self) -> str:
        try:
            return str(json.loads(self._file.read_text())["address"])
        except (OSError, ValueError):  # it is not there yet, or not whole
            return ""

    def close(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.close()


class TestCluster(DaskContract):
    @pytest.fixture(autouse=True)
    def _joined(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "options", {"address": cluster.address, "timeout": 60}, raising=False)
        eventually(lambda: cluster.log.count("Registered to") >= 2, "both workers")

    @pytest.fixture
    def workers(self, engine: Any) -> Any:
        eventually(lambda: len(engine.capacity()) == 2, "both workers")
        return engine.capacity()

    def test_a_worker_says_for_which_platform_it_is(self, engine: Any) -> None:
        found = {worker.name: worker.platforms for worker in engine.capacity()}
        assert found["two"] == ("linux/arm64",)
        assert found["one"] != found["two"]

    def test_zz_a_lost_worker_ends_the_waiting_and_runs_nothing_again(
        self, engine: Any, cluster: Cluster, tmp_path: Path
    ) -> None:
        ran = tmp_path / "ran"
        _, handle = submit(engine, [["note", str(ran)], ["await", str(tmp_path / "never")]], workers=("two",))
        eventually(ran.exists, "the task to begin")
        eventually(lambda: engine._look_for(handle) is None and handle.worker == "two", "dask to know")
        cluster.processes[2].kill()
        with pytest.raises(ImgError, match="two"):
            handle.wait()
        assert len(ran.read_text().splitlines()) == 1
        (tmp_path / "never").touch()
        quietly_wait(submit(engine, [], workers=("one",))[1])


def test_a_scheduler_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    engine = DaskEngine(Host("none", str(tmp_path), str(tmp_path)), {"address": "tcp://127.0.0.1:9", "timeout": 1})
    with pytest.raises(ImgError, match=r"no dask scheduler answers at `tcp://127\.0\.0\.1:9`") as caught:
        engine.capacity()
    assert "\n" not in caught.value.message
    engine.close()


class _Lost:
    """A client of dask whose connection ends at the call named *at*."""

    def __init__(self, at: str) -> None:
        self._at = at

    def __getattr__(self, name: str) -> Any:
        if name == self._at:
            raise OSError(f"Timed out during handshake while connecting to tcp://x\nat {name}")
        return lambda *_words, **_options: {"workers": {"tcp://w": {"name": "one", "resources": {"linux/amd64": 1}}}}


@pytest.mark.parametrize("at", ["scheduler_info", "subscribe_topic", "submit"])
def test_a_scheduler_that_goes_away_is_one_line(tmp_path: Path, at: str) -> None:
    engine = DaskEngine(Host("none", str(tmp_path), str(tmp_path)), {"address": "tcp://head:8786"})
    engine._connected = _Lost(at)
    said = r"^the dask scheduler at `tcp://head:8786` does not answer any more: Timed out during handshake while connecting to tcp://x$"
    with pytest.raises(ImgError, match=said):
        engine.submit(EngineTask("id", "{}", "a task"), print)
    if at == "scheduler_info":
        with pytest.raises(ImgError, match=said):
            engine.capacity()
    assert not engine._handles


DOCKERFILE = """\
FROM BASE AS one
RUN sleep 1; echo 1 > /out; touch -r /bin/busybox /out
FROM BASE AS two
COPY file /file
RUN sleep 1; cat /file > /out; touch -r /bin/busybox /out
FROM BASE
COPY --from=one /out /1
COPY --from=two /out /2
"""


@pytest.mark.rootless
def test_a_build_on_this_machine_and_on_a_cluster_gives_the_same_image(
    new_state: Any, registry: Any, tmp_path: Path, cluster: Cluster
) -> None:
    alone, here, there = (new_state(name) for name in ("alone", "here", "there"))
    base = f"{registry.address}/busybox"
    for img in (alone, here, there):
        img.run("tag", "busybox", base).ok()
        img.run("push", base).ok()
    context = write_context(tmp_path / "context", DOCKERFILE.replace("BASE", base), {"file": "2\n"})
    epoch = ("--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--explain")
    alone.build(context, *epoch).ok()
    (tmp_path / "tmp").mkdir()
    here = here.with_environment(TMPDIR=str(tmp_path / "tmp"))
    done = here.build(context, "--engine", "dask,workers=2,home=0", *epoch).ok()
    assert os.listdir(tmp_path / "tmp") == [], "dask keeps nothing outside of our directory"
    assert here.digest("built") == alone.digest("built")
    assert done.stderr.count(": on ") == 3, str(done)
    command = f"{sys.executable} -P -m img_core -s {tmp_path}/worker worker -"
    engine = f"dask,address={cluster.address},cache={tmp_path}/cache,home=0,command={command}"
    done = there.build(context, "--engine", engine, *epoch).ok()
    assert there.digest("built") == alone.digest("built")
    assert done.stderr.count(": on one") == 3, str(done)
    remove_as_mapped_root(tmp_path / "worker")
