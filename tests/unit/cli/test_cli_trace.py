"""``--trace FILE`` and the variable ``IMG_TRACE``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from cli_support import rootfs_tar
from test_cli_startup import modules_of

Img = Callable[..., CompletedProcess[str]]


def spans(path: Path) -> list[dict[str, Any]]:
    return [event for event in json.loads(path.read_text())["traceEvents"] if event["ph"] == "X"]


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (["--trace", "t.json", "ls"], {}),
        (["ls", "--trace=t.json"], {}),
        (["ls"], {"IMG_TRACE": "t.json"}),
        (["ls", "--trace", "t.json"], {"IMG_TRACE": "other.json"}),
    ],
)
def test_a_command_is_traced(run: Img, tmp_path: Path, words: list[str], variables: dict[str, str]) -> None:
    done = run(*words, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    found = spans(tmp_path / "t.json")
    assert {"start", "import", "command", "database"} <= {event["cat"] for event in found}
    assert {"img_core.cli._exit", "click", "img_core.cli.ls"} <= {event["name"] for event in found}
    assert not (tmp_path / "other.json").exists()


def test_each_command_of_a_script_has_a_file(run: Img, tmp_path: Path) -> None:
    for _ in range(2):
        run("ls", IMG_TRACE="trace-%p.json")
    assert len(list(tmp_path.glob("trace-[0-9]*.json"))) == 2


def test_a_command_that_fails_is_traced(run: Img, tmp_path: Path) -> None:
    done = run("tag", "nothing", "new", "--trace", "t.json")
    assert done.returncode == 1
    assert "command" in {event["cat"] for event in spans(tmp_path / "t.json")}


def test_a_trace_that_cannot_be_written_is_told(run: Img) -> None:
    done = run("ls", "--trace", "no/such/place.json")
    assert (done.returncode, done.stderr) == (
        1,
        "Error: cannot write `no/such/place.json`: no such file or directory\nhint: name another place\n",
    )
    failed = run("tag", "nothing", "new", "--trace", "no/such/place.json")
    assert failed.returncode == 1
    assert 'image "nothing": not found' in failed.stderr
    assert "the trace was not written" in failed.stderr


def test_without_it_nothing_of_it_is_imported(tmp_path: Path) -> None:
    assert "img_core.cli._trace" not in modules_of(["ls"], tmp_path)


@pytest.mark.parametrize(
    "words", [["inspect", "app"], ["push", "-q", "app", "127.0.0.1:1/app"]], ids=["inspect", "push"]
)
def test_the_database_is_opened_once(run: Img, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "root.tar").write_bytes(rootfs_tar())
    assert run("import", "root.tar", "app").returncode == 0
    run(*words, "--trace", "t.json")
    found = [event for event in spans(tmp_path / "t.json") if (event["cat"], event["name"]) == ("database", "open")]
    assert len(found) == 1
