"""Notes of steps that failed: what is written is read, and it has no secret."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from img_core.api._failed import available, failed_step, kind_of, remember
from img_core.api._request import BuildRequest, Limits, SecretSource, SshAgent
from img_core.solver.failure import shell_of
from img_core.spec.errors import NotFoundError, StateError, UsageError
from img_core.spec.graph import (
    Copy,
    FileOp,
    Location,
    MakeDirectory,
    MergeOp,
    RunMount,
    RunOp,
    SourceOp,
    Vertex,
    WriteFile,
)
from img_core.spec.values import Platform

BASE = Vertex(SourceOp("docker-image", "base", (("a", "b"),)), platform=Platform("linux", "arm64", "v8"))
CONTEXT = Vertex(SourceOp("local", "context"))
STAGE = Vertex(
    FileOp((MakeDirectory("/w"), WriteFile("f", b"\x00\xff", "/f"), Copy(1, ("a",), "/w/", exclude=("x",)))),
    (BASE, CONTEXT),
)
LINKED = Vertex(MergeOp(), (BASE, STAGE), name="link")
STEP = Vertex(
    RunOp(
        ("/bin/sh", "-c", "false"),
        (("A", "b"),),
        mounts=(
            RunMount("bind", "/m", input=2, required=True),
            RunMount("secret", "/s", id="token", required=True),
            RunMount("bind", "/n", input=1),
        ),
        proxy_env=(("http_proxy", "http://me:pw@proxy"), ("no_proxy", "localhost")),
        ulimits=(("nofile", 1, 2),),
    ),
    (BASE, CONTEXT, LINKED),
    Platform("linux", "amd64"),
    "[2/2] RUN false",
    Location("Dockerfile", 3, 4),
    use_cache=False,
)
REQUEST = BuildRequest(
    "/context",
    definition=b"FROM base\xff",
    build_args={"TOKEN": "s3cret-argument"},
    secrets={"file": SecretSource("/etc/passwd"), "given": SecretSource(value=b"s3cret-value")},
    ssh={"default": SshAgent("/nowhere/agent")},
    limits=Limits(memory=1 << 30),
    contexts={"name": "/other"},
)


def kept(tmp_path: Path, request: BuildRequest = REQUEST, build: str = "b1", snapshot: str = "s1") -> str:
    return remember(str(tmp_path), build, request, STEP, snapshot, "it failed")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    kept(tmp_path)
    failed = failed_step(str(tmp_path), "last")
    assert (failed.build, failed.snapshot, failed.message) == ("b1", "s1", "it failed")
    op = failed.vertex.op
    assert isinstance(op, RunOp)
    assert [item.digest for item in failed.vertex.inputs] == [CONTEXT.digest, LINKED.digest]
    assert [(mount.input, mount.required) for mount in op.mounts] == [(1, False), (None, False), (0, False)]
    assert (op.args, op.env, op.ulimits) == (("/bin/sh", "-c", "false"), (("A", "b"),), (("nofile", 1, 2),))
    assert (failed.vertex.name, failed.vertex.location) == (STEP.name, STEP.location)
    assert (failed.request.context, failed.request.limits) == ("/context", Limits(memory=1 << 30))
    assert failed.request.definition == b"FROM base\xff"
    assert failed.request.contexts == {"name": "/other"}
    assert failed.request.secrets == {"file": SecretSource("/etc/passwd")}
    assert failed.request.ssh == {"default": SshAgent("/nowhere/agent")}


def test_a_note_has_no_secret_and_is_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "failed" / kept(tmp_path)
    text = path.read_text()
    assert "s3cret" not in text
    assert "pw" not in text.replace("passwd", "")
    assert "no_proxy" in text
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_long_build_definition_is_no_problem(tmp_path: Path) -> None:
    stage = BASE
    for number in range(3000):
        stage = Vertex(FileOp((MakeDirectory(f"/{number}"),)), (stage,))
    step = replace(STEP, inputs=(BASE, CONTEXT, stage))
    remember(str(tmp_path), "b", REQUEST, step, "s", "m")
    assert failed_step(str(tmp_path), "").vertex.inputs[1].digest == stage.digest


def test_a_build_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    kept(tmp_path, build="abc", snapshot="s1")
    kept(tmp_path, build="def", snapshot="s2")
    assert [failed_step(str(tmp_path), name).snapshot for name in ("ab", "def")] == ["s1", "s2"]
    with pytest.raises(NotFoundError, match='of the build "x" is kept'):
        failed_step(str(tmp_path), "x")


def test_of_another_version_nothing_is_guessed(tmp_path: Path) -> None:
    path = tmp_path / "failed" / kept(tmp_path)
    note = json.loads(path.read_text())
    plan = {"schema": "img-plan", "version": 1}
    wrongs: list[dict[str, object]] = [
        {"version": 1},
        {"plan": plan},
        {"plan": None},
        {"request": {"is": "Nothing", "with": {}}},
    ]
    for wrong in wrongs:
        path.write_text(json.dumps({**note, **wrong}))
        with pytest.raises(StateError, match="cannot be read"):
            failed_step(str(tmp_path), "last")


@pytest.mark.parametrize(
    ("change", "same"),
    [
        pytest.param({"tags": ("x",)}, True, id="tags"),
        pytest.param({"build_args": {}}, True, id="arguments"),
        pytest.param({"context": "/other"}, False, id="context"),
        pytest.param({"dockerfile": "x"}, False, id="file"),
        pytest.param({"definition": b"x"}, False, id="text"),
        pytest.param({"target": "x"}, False, id="target"),
    ],
)
def test_builds_of_one_kind_have_one_context_definition_and_target(change: dict[str, object], same: bool) -> None:
    assert (kind_of(REQUEST) == kind_of(replace(REQUEST, **change))) is same  # type: ignore[arg-type]


def test_what_is_gone_is_told_and_not_asked_for() -> None:
    notices: list[str] = []

    def locate(name: str, source: SecretSource) -> SecretSource:
        if source.path:
            raise UsageError("it is not there")
        return replace(source, type="known")

    request = available(
        replace(REQUEST, secrets={"a": SecretSource("/nowhere/a"), "b": SecretSource(variable="B")}),
        locate,
        notices.append,
    )
    assert request.secrets == {"b": SecretSource(variable="B", type="known")}
    assert request.ssh == {}
    assert notices == ["the secret `a` is not there any more", "the ssh agent `default` is not there any more"]


@pytest.mark.parametrize(
    ("args", "shell"),
    [
        pytest.param(("/bin/sh", "-c", "false"), "/bin/sh", id="usual"),
        pytest.param(("/bin/bash", "-o", "pipefail", "-c", "false"), "/bin/bash", id="options"),
        pytest.param(("python3", "-c", "exit(1)"), "/bin/sh", id="other-interpreter"),
        pytest.param(("false",), "/bin/sh", id="program"),
        pytest.param(("/bin/zsh", "file"), "/bin/sh", id="script"),
    ],
)
def test_the_shell_is_that_of_the_step(args: tuple[str, ...], shell: str) -> None:
    assert shell_of(args) == shell
