"""The engine of Slurm, on a real cluster of two nodes: the contract, and a whole build."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from img_engine_slurm._engine import SlurmEngine
from slurm_cluster import SlurmCluster, program

from harness.img import remove_as_mapped_root, write_context
from img_core.spec import Host, ImgError, Unsupported
from img_core.testing.contracts.driver import ModuleContract
from img_core.testing.contracts.engine import EngineContract

DOCKERFILE = """\
FROM BASE AS one
RUN echo 1 > /out; touch -r /bin/busybox /out
FROM BASE AS two
COPY file /file
RUN cat /file > /out; touch -r /bin/busybox /out
FROM BASE
COPY --from=one /out /1
COPY --from=two /out /2
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    if not program("slurmctld", "slurmctld-wlm"):
        pytest.skip("this host lacks Slurm (packages slurmctld, slurmd, slurm-client)")
    made = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    yield made
    made.close()


class TestModule(ModuleContract):
    kind = "engine"
    module = "img_engine_slurm.plugin"


class TestSlurm(EngineContract):
    engine_class = SlurmEngine

    @pytest.fixture(autouse=True)
    def _joined(self, cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)

    def test_features_of_nodes_are_platforms(self, engine: Any) -> None:
        assert {item.name: (item.platforms, item.slots) for item in engine.capacity()} == {
            "one": (("linux/amd64",), 2),
            "two": (("linux/arm64",), 1),
        }


@pytest.mark.rootless
def test_a_build_gives_the_image_of_one_machine(
    new_state: Any, registry: Any, tmp_path: Path, cluster: SlurmCluster
) -> None:
    alone, home = new_state("alone"), new_state("here").with_environment(**cluster.environment)
    base = f"{registry.address}/busybox"
    for img in (alone, home):
        img.run("tag", "busybox", base).ok()
        img.run("push", base).ok()
    context = write_context(tmp_path / "context", DOCKERFILE.replace("BASE", base), {"file": "2\n"})
    epoch = ("--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--explain")
    alone.build(context, *epoch).ok()
    command = f"{sys.executable} -P -m img_core -s {tmp_path}/worker worker -"
    done = home.build(context, "--engine", f"slurm,cache={tmp_path}/cache,home=0,command={command}", *epoch).ok()
    assert home.digest("built") == alone.digest("built")
    assert done.stderr.count(": on one") == 3, f"{done}\n{cluster.log()}"
    remove_as_mapped_root(tmp_path / "worker")


def test_without_slurm_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="no program `srun`"):
        SlurmEngine.probe(Host("none", str(tmp_path), str(tmp_path), environment={"PATH": str(tmp_path)}))


def test_a_cluster_that_does_not_answer_is_one_line(
    tmp_path: Path, cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    conf = tmp_path / "slurm.conf"
    conf.write_text("nonsense\n")
    host = Host("none", str(tmp_path), str(tmp_path), environment={**os.environ, "SLURM_CONF": str(conf)})
    with pytest.raises(ImgError, match="Slurm does not answer") as caught:
        SlurmEngine(host).capacity()
    assert "\n" not in caught.value.message
