"""Several builds together (`Client.build_many`, ``img bake``): each image is what it is alone, what they share is done once."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.img import Img, remove_as_mapped_root, write_context
from harness.web import Page, web_server
from img_core.api import BuildRequest, Client, SecretSource
from img_core.spec import StepError, UsageError
from img_core.testing.registry import DockerRegistry

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.rootless

EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}
SHARED = "FROM busybox AS base\nRUN echo shared > /shared; touch -r /bin/busybox /shared\n"
OWN = "FROM base\nARG WHAT=none\nCOPY file /file\nRUN echo $WHAT | cat - /file > /own; touch -r /bin/busybox /own\n"


#: Does several calls in one process: what takes a process for each call takes a second.
PROGRAM = """\
import json, resource, sys, time
from img_core.api import Client
state, files, calls = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.stdin.read())
with Client(state=state, plugin_files=files, in_process=True) as client:
    client.enter()
    for name, given, options in calls:
        names, ran = {}, []
        def hear(event):
            kind = type(event).__name__
            if kind == "StepStarted":
                names[event.step] = event.name
            elif kind == "StepFinished" and not event.cached and "RUN" in names[event.step]:
                ran.append((names[event.step].partition("] ")[2], event.reason.partition(":")[0]))
        began = time.process_time()
        if name == "build_many":
            results = client.build_many(given, on_event=hear, **options)
        else:
            results = [client.build(**given, on_event=hear, **options)]
        told = [(item.digest, item.names, item.steps, item.cached_steps, item.build) for item in results]
        used = resource.getrusage(resource.RUSAGE_SELF)
        memory = used.ru_maxrss // 1024
        print(json.dumps({"ran": ran, "results": told, "cpu": time.process_time() - began, "memory": memory}))
"""


@dataclass(frozen=True, slots=True)
class Call:
    """What came of one call: RUN steps that ran, and where; results; seconds of the processor, and MB in use at most."""

    ran: list[tuple[str, str]]
    results: list[tuple[str, list[str], int, int, str]]
    cpu: float
    memory: int

    @property
    def digests(self) -> list[str]:
        return [result[0] for result in self.results]


def calls(img: Img, *wanted: tuple[str, Any, dict[str, Any]], files: tuple[str, ...] = ()) -> list[Call]:
    """Do calls of a client, each its name, its builds and its options, one after the other."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(img.state), json.dumps(files)], input=json.dumps(wanted), text=True,
        env=img.environment(), capture_output=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [Call(**json.loads(line)) for line in done.stdout.splitlines()]


def words(ran: list[tuple[str, str]]) -> list[str]:
    """Return the second word of each step: what it prints."""
    return sorted(step.split()[2] for step, _ in ran)


@pytest.fixture
def contexts(tmp_path: Path) -> list[Path]:
    made = [write_context(tmp_path / name, SHARED + OWN, {"file": f"{name}\n"}) for name in ("a", "b", "c")]
    (tmp_path / "c/.dockerignore").write_text("*\n!file\n")
    return made


def client_of(img: Img) -> Client:
    return Client(state=img.state, environment=img.environment())


def test_each_image_is_what_it_is_alone(new_state: Callable[[str], Img], contexts: list[Path], tmp_path: Path) -> None:
    a, b, c = map(str, contexts)
    many: list[dict[str, Any]] = [
        {"context": a, "tags": "a", "build_args": EPOCH},
        {"context": b, "tags": ["b", "b:2"], "build_args": {**EPOCH, "WHAT": "b"}},
        {"context": b, "tags": "other", "build_args": {**EPOCH, "WHAT": "o"}, "labels": {"of": "b"}},
        {"context": c, "tags": "c", "build_args": EPOCH, "outputs": {"type": "oci", "dest": f"{tmp_path}/c.tar"}},
        {"context": a, "tags": "base", "target": "base", "build_args": EPOCH},
        {"context": a, "tags": "none", "definition": "FROM scratch\nLABEL a=b\n", "build_args": EPOCH},
        {"context": c, "tags": "files", "definition": "FROM scratch\nCOPY . /\nCOPY --from=x file /x\n", "build_args": EPOCH,
         "contexts": {"x": a}},
        {"context": a, "tags": "index", "build_args": {**EPOCH, "BUILDKIT_MULTI_PLATFORM": "1"}},
        {"context": a, "tags": "dated", "build_args": {"SOURCE_DATE_EPOCH": "1600000000"}},
    ]  # fmt: skip
    first, again = calls(new_state("together"), ("build_many", many, {}), ("build_many", many, {}))
    alone = calls(new_state("alone"), *(("build", one, {}) for one in many))
    for one, result, own in zip(many, first.results, alone, strict=True):
        assert result[:3] == own.results[0][:3], one
    # Those of another time are other steps.
    assert words(first.ran) == ["b", "none", "none", "o", "shared"]
    assert again.ran == []
    assert again.digests == first.digests
    assert (first.results[0][3], again.results[0][3]) == (0, 3), "of the steps of the first three are no sources"
    logs = [result[4] for result in first.results]
    assert [logs.index(log) for log in logs] == [0, 0, 0, 0, 0, 0, 0, 7, 8], "an index and another time are done apart"
    assert (tmp_path / "c.tar").exists()


def test_what_steps_may_use_is_that_of_their_own_build(img: Img, tmp_path: Path) -> None:
    text = "FROM busybox\nARG N\nRUN --mount=type=secret,id=it echo $N; cp /run/secrets/it /it\n"
    context = write_context(tmp_path / "context", text)
    builds = [
        BuildRequest(
            str(context), tags=(f"it{n}",), build_args={"N": str(n)},
            secrets={"it": SecretSource(value=secret)}, outputs=(),
        )
        for n, secret in enumerate((b"one", b"two", b"one"))
    ]  # fmt: skip
    client_of(img).build_many(builds)
    for n, secret in enumerate(("one", "two", "one")):
        img.run("unpack", "-o", tmp_path / str(n), f"it{n}").ok()
        assert (tmp_path / str(n) / "it").read_text() == secret


@pytest.mark.parametrize(
    ("builds", "message"),
    [
        pytest.param([{"context": ".", "tag": "x"}], "unexpected keyword argument 'tag'", id="an-unknown-argument"),
        pytest.param([{"context": ".", "tags": 1}], "`tags` of build() must be", id="a-wrong-type"),
        pytest.param([1], "`context` of build() must be", id="no-build"),
    ],
)  # fmt: skip
def test_what_is_no_build_is_refused_before_anything_runs(img: Img, builds: list[Any], message: str) -> None:
    with pytest.raises((UsageError, TypeError), match=message.replace("(", r"\(").replace(")", r"\)")):
        client_of(img).build_many(builds)
    assert client_of(img).build_many([]) == ()


def test_one_that_fails_shows_its_place_and_can_be_looked_at(img: Img, contexts: list[Path], tmp_path: Path) -> None:
    bad = write_context(
        tmp_path / "bad", SHARED + "FROM base\nRUN --mount=target=/in cp /in/file /left; exit 7\n", {"file": "x"}
    )
    with pytest.raises(StepError) as caught:
        client_of(img).build_many([*contexts, bad, contexts[0]])
    assert caught.value.status == 7
    assert f"{bad}/Dockerfile:4" in (caught.value.excerpt or "")
    assert client_of(img).builds()[0].result == "failed"
    done = img.run("debug", "last", "--", "cat", "/left", "/in/file")
    assert done.ok().text == "xx", str(done)


MANY = """\
FROM BASE AS base
RUN echo shared > /shared; touch -r /bin/busybox /shared
FROM base
ARG N
COPY file /file
RUN echo $N > /own; touch -r /bin/busybox /own
"""


@pytest.mark.registry
def test_many_small_builds_by_two_workers(
    new_state: Callable[[str], Img], registry: DockerRegistry, tmp_path: Path
) -> None:
    """A shared step runs once, every other once somewhere; the client costs little time for each, and no memory."""
    base, count = f"{registry.address}/busybox", 40
    for n in range(10):
        write_context(tmp_path / f"contexts/{n}", MANY.replace("BASE", base), {"file": str(n)})
    plugin = tmp_path / "engine-processes.py"
    plugin.write_text("from img_lib_engines.processes import engine_plugin\nimg_engine = engine_plugin()\n")
    builds = [
        {"context": f"{tmp_path}/contexts/{n % 10}", "tags": f"app{n}", "build_args": {**EPOCH, "N": str(n)}}
        for n in range(count)
    ]
    alone, home = new_state("alone"), new_state("here")
    for img in (alone, home):
        img.run("tag", "busybox", base).ok()
        img.run("push", base).ok()
    few = calls(alone, ("build_many", builds[:4], {}))[0]
    engine = {"engine": f"processes,home=0,states={tmp_path}/workers"}
    many, cached = calls(home, ("build_many", builds, engine), ("build_many", builds, {}), files=(str(plugin),))
    remove_as_mapped_root(tmp_path / "workers")
    assert words(many.ran) == sorted([*map(str, range(count)), "shared"])
    assert {place for _, place in many.ran} == {"on a", "on b"}
    assert many.digests[:4] == few.digests
    assert len(set(many.digests)) == count
    overhead = (many.cpu - cached.cpu) / count  # a client without workers does what a cached build does, too
    assert overhead < 0.06, "three times what it may take where nobody else works"
    assert many.memory - few.memory < 25, "MB more for ten times as many builds"


def test_bake_builds_what_a_file_lists(img: Img, contexts: list[Path], tmp_path: Path) -> None:
    document = {
        "variable": {"TAG": {"default": "1"}},
        "group": {"default": {"targets": ["a", "more"]}, "more": {"targets": ["b", "inline"]}},
        "target": {
            "_all": {"args": {"WHAT": "all", "SOURCE_DATE_EPOCH": EPOCH["SOURCE_DATE_EPOCH"]}},
            "a": {"inherits": ["_all"], "context": str(contexts[0]), "tags": ["a:${TAG}"]},
            "b": {
                "inherits": ["_all"],
                "context": str(contexts[1]),
                "dockerfile": "Dockerfile",
                "tags": ["b:1", "b:2"],
            },
            "inline": {
                "context": str(contexts[2]),
                "dockerfile-inline": "FROM scratch\nCOPY file /\n",
                "tags": ["inline"],
            },
        },
    }
    file, metadata = tmp_path / "bake.json", tmp_path / "metadata.json"
    file.write_text(json.dumps(document))
    done = img.run(
        "bake", "-f", file, "--set", "b.args.WHAT=b", "--metadata-file", metadata, "--progress", "plain"
    ).ok()
    steps = re.findall(r"^#(\d+) (.*exporting to image)$", done.stderr, re.MULTILINE)
    named = {"[a:1] exporting to image", "[b:1] exporting to image", "exporting to image"}  # of another time: apart
    assert {name for _, name in steps} == named
    assert len({number for number, _ in steps}) == 3, done.stderr
    assert {f"docker.io/library/{name}" for name in ("a:1", "b:1", "b:2", "inline:latest")} <= set(img.names())
    told = json.loads(metadata.read_text())
    assert told.keys() == {"a", "b", "inline"}
    for name, value in (("a:1", "all"), ("b:1", "b")):
        context = contexts[0] if name == "a:1" else contexts[1]
        alone = ("--build-arg", f"SOURCE_DATE_EPOCH={EPOCH['SOURCE_DATE_EPOCH']}", "--build-arg", f"WHAT={value}")
        img.build(context, *alone, "--no-cache", tag="alone").ok()
        assert img.digest("alone") == img.digest(name) == told[name.partition(":")[0]]["containerimage.digest"]
    lines = img.run("bake", "-f", file, "a", "--print").ok().text
    assert json.loads(lines)["target"]["a"]["tags"] == ["a:1"]


BAKE = """\
variable "EPOCH" { default = "1700000000" }
variable "URL" { default = "SERVER" }
group "default" { targets = ["app", "tool"] }
target "_all" { args = { SOURCE_DATE_EPOCH = EPOCH } }
target "base" {
  inherits = ["_all"]
  context  = "CONTEXT"
  target   = "base"
}
target "tool" {
  inherits = ["_all"]
  context  = URL
  contexts = { under = "target:base" }
  dockerfile-inline = "FROM under\\nCOPY file /tool\\n"
  output   = ["type=oci,dest=OUT"]
}
target "app" {
  name     = "app-${version}"
  matrix   = { version = ["1", "2"] }
  inherits = ["_all"]
  context  = URL
  contexts = { base = "target:base", tool = "target:tool" }
  args     = { WHAT = version }
  tags     = ["app:${version}"]
  dockerfile-inline = <<-EOT
    FROM base
    ARG WHAT
    COPY file /file
    COPY --from=tool /tool /tool
    RUN echo $${WHAT} | cat - /shared /tool > /own; touch -r /bin/busybox /own
  EOT
}
"""


def test_bake_builds_targets_on_other_targets(img: Img, contexts: list[Path], tmp_path: Path) -> None:
    """A matrix, targets that are contexts of others, and a context that comes from a server: each is built, and fetched, once."""
    file, packed = tmp_path / "docker-bake.hcl", io.BytesIO()
    os.utime(contexts[1] / "file", (1, 1))
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(contexts[1] / "file", "file")
    text = BAKE.replace("CONTEXT", str(contexts[0])).replace("OUT", f"{tmp_path}/out.tar")
    with web_server() as server:
        server.pages["/context.tar"] = Page(packed.getvalue())
        file.write_text(text.replace("SERVER", f"{server.url}/context.tar"))
        done = img.run("bake", "-f", file, "--progress", "plain").ok()
        fetched = [headers for headers in server.answers("/context.tar") if "if-none-match" not in headers]
    assert len(fetched) == 1
    steps = set(re.findall(r"^#\d+ \[.*\] (RUN .*)$", done.stderr, re.MULTILINE))
    assert len(steps) == 3, done.stderr  # the shared one, and one for each version
    assert len(set(re.findall(r"^#(\d+) \[.*\] RUN echo shared", done.stderr, re.MULTILINE))) == 1
    assert {"docker.io/library/app:1", "docker.io/library/app:2"} <= set(img.names())
    assert (tmp_path / "out.tar").exists()
    img.run("unpack", "-o", tmp_path / "two", "app:2").ok()
    assert (tmp_path / "two/own").read_text() == "2\nshared\nb\n"

    epoch = ("--build-arg", "SOURCE_DATE_EPOCH=1700000000")
    img.build(contexts[0], *epoch, "--target", "base", tag="base").ok()
    tool = write_context(tmp_path / "tool", "FROM base\nCOPY file /tool\n", {"file": "b\n"})
    own = BAKE.partition("<<-EOT\n")[2].partition("  EOT")[0].replace("$${", "${")
    app = write_context(tmp_path / "app", own, {"file": "b\n"})
    for copied in (tool / "file", app / "file"):
        os.utime(copied, (1, 1))
    img.build(tool, *epoch, tag="tool").ok()
    img.build(
        app, *epoch, "--build-arg", "WHAT=2", "--build-context", "tool=docker-image://tool", "--no-cache", tag="alone"
    ).ok()
    assert img.digest("alone") == img.digest("app:2")

    (tmp_path / "docker-bake.json").write_text(img.run("bake", "-f", file, "--print").ok().text)
    again = img.run("bake", "-f", tmp_path / "docker-bake.json", "base", "--explain").ok()
    assert "ran   " not in again.stderr
