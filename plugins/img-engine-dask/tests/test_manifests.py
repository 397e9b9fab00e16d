"""The manifests of the how-to: they fit together, and their command lines build an image with a registry as the cache."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.host import need
from harness.img import remove_as_mapped_root, write_context
from harness.ports import free_ports
from harness.unmodified import Box
from img_core.testing.processes import eventually

PAGE = Path(__file__).resolve().parents[3] / "docs/how-to/several-machines.md"


def manifests() -> dict[str, dict[str, Any]]:
    """Return the documents of the page by kind and name."""
    text = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    found = [document for block in text for document in yaml.safe_load_all(block)]
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in found}


def pod(job: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = job["spec"]["template"]["spec"]
    return spec


def test_they_fit_together() -> None:
    found = manifests()
    service, scheduler, workers = (
        found[name] for name in ("Service/img-scheduler", "Job/img-scheduler", "Job/img-workers")
    )
    assert [item["apiVersion"] for item in (service, scheduler, workers)] == ["v1", "batch/v1", "batch/v1"]
    assert service["spec"]["selector"].items() <= scheduler["spec"]["template"]["metadata"]["labels"].items()
    port = service["spec"]["ports"][0]["port"]
    assert str(port) in pod(scheduler)["containers"][0]["command"]
    assert f"tcp://{service['metadata']['name']}:{port}" in pod(workers)["containers"][0]["command"]
    assert f"address=tcp://{service['metadata']['name']}:{port}," in PAGE.read_text()
    for job in (scheduler, workers):
        assert pod(job)["restartPolicy"] in ("Never", "OnFailure"), "a Job takes nothing else"
        volumes = {volume["name"] for volume in pod(job).get("volumes", [])}
        for container in pod(job)["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
            assert container["image"]


def as_it_is(*words: str) -> list[str]:
    """Run a program of this machine on this machine."""
    return [*words]


@contextmanager
def started(
    command: list[str],
    directory: Path,
    wrap: Callable[..., list[str]],
    **environment: str,
) -> Iterator[Path]:
    """Run *command*, which begins with ``dask``, for a block, as *wrap* has it; give the file with what it says."""
    directory.mkdir()
    program = "from dask.__main__ import main; main()"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            wrap(sys.executable, "-c", program, *command[1:]), stdout=log, stderr=log, cwd=directory,
            env={**os.environ, "TMPDIR": str(directory), **environment},
        )  # fmt: skip
    try:
        yield directory / "log"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.rootless
@pytest.mark.registry
@pytest.mark.parametrize("place", ["a-process", "a-container-that-nobody-changed"])
def test_their_commands_build_an_image(new_state: Any, registry: Any, tmp_path: Path, place: str) -> None:
    found = manifests()
    port = str(free_ports(1)[0])

    def command(name: str) -> tuple[list[str], dict[str, str]]:
        container = pod(found[name])["containers"][0]
        words = [word.replace("img-scheduler", "127.0.0.1").replace("8786", port) for word in container["command"]]
        return words, {item["name"]: item["value"] for item in container.get("env", [])}

    alone, laptop = new_state("alone"), new_state("laptop")
    base = f"{registry.address}/busybox"
    for img in (alone, laptop):
        img.run("tag", "busybox", base).ok()
        img.run("push", base).ok()
    text = f"FROM {base} AS one\nRUN echo 1 > /1; touch -r /bin/busybox /1\nFROM {base} AS two\nRUN echo 2 > /2; touch -r /bin/busybox /2\n"
    context = write_context(tmp_path / "context", f"{text}FROM scratch\nCOPY --from=one /1 /\nCOPY --from=two /2 /\n")
    epoch = ("--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--explain")
    alone.build(context, *epoch).ok()
    engine = f"dask,address=tcp://127.0.0.1:{port},cache={registry.address}/me/app:cache,home=0"
    scheduler, _ = command("Job/img-scheduler")
    worker, environment = command("Job/img-workers")
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    volume, box, wrap = tmp_path / "pod", None, as_it_is
    if place == "a-process":
        environment["XDG_DATA_HOME"] = str(volume)
    else:
        need("runc")
        box = Box(tmp_path / "layer", "root")
        volume, situation = box.inside(environment["XDG_DATA_HOME"]), box.img().situation
        assert situation is not None
        wrap = situation.wrap
        environment |= {"HOME": "/root", "TMPDIR": "/tmp"}
    with started(scheduler, tmp_path / "scheduler", as_it_is) as said:
        eventually(lambda: "Scheduler at" in said.read_text(), "the scheduler")
        with started(worker, tmp_path / "worker", wrap, **environment) as log:
            eventually(lambda: "Registered to" in log.read_text(), lambda: log.read_text())
            done = laptop.build(context, "--engine", engine, *epoch).ok()
    assert laptop.digest("built") == alone.digest("built")
    assert done.stderr.count(": on ") == 2, str(done)
    assert (volume / "img/img.db").exists(), "the worker has its state where the volume is"
    if box is not None:
        box.remove()
    else:
        remove_as_mapped_root(volume)
