"""``--explain``, on the command line, in the log of a build and in events."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.fixtures import NewState
from harness.img import Img, write_context

pytestmark = pytest.mark.rootless

DOCKERFILE = "FROM busybox\nARG V=1\nCOPY a d /c/\nRUN echo $V > /r\n"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    return write_context(directory, DOCKERFILE, {"a": "a", "d/x": "x", "d/y": "y"})


def told(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("found ", "ran "))]


def test_each_step_is_explained_also_afterwards(img: Img, context: Path, tmp_path: Path) -> None:
    cache = f"type=local,dest={tmp_path / 'cache'},mode=max"
    img.build(context, "--cache-to", cache).ok()
    cached = told(img.build(context, "--explain").ok().stderr)
    assert [line.rpartition(": ")[2] for line in cached] == ["here", "here"]
    (context / "d" / "y").write_text("other")
    changed = told(img.build(context, "--explain").ok().stderr)
    assert [line.rpartition(": ")[2] for line in changed] == ["file d/y", "step `[2/3] COPY a d /c/`"]
    assert told(img.run("logs", "--explain").ok().text) == changed
    assert told(img.run("history", "--explain", "built").ok().text) == changed
    assert "no build that gave" in img.run("history", "--explain", "busybox").refused(1).stderr
    (context / "d" / "y").unlink()
    gone = told(img.build(context, "--explain").ok().stderr)
    assert gone[0].endswith("file d/y")


def test_another_machine_tells_where_it_was_found_and_what_differs(
    img: Img, context: Path, tmp_path: Path, new_state: NewState
) -> None:
    img.build(context, "--cache-to", f"type=local,dest={tmp_path / 'cache'},mode=max").ok()
    other = new_state("other")
    source = f"type=local,src={tmp_path / 'cache'}"
    done = other.build(context, "--explain", "--cache-from", source, "--build-arg", "V=2").ok()
    found, ran = told(done.stderr)
    assert found.startswith("found [2/3] COPY a d /c/: local ")
    assert ran == "ran   [3/3] RUN echo 2 > /r: variable V"


def test_programs_get_it_with_the_other_events(img: Img, context: Path) -> None:
    img.build(context).ok()
    (context / "a").write_text("other")
    lines = img.build(context, "--progress=rawjson").ok().stderr.splitlines()
    vertexes = [vertex for line in lines for vertex in json.loads(line).get("vertexes", ())]
    assert {vertex["reason"] for vertex in vertexes if "reason" in vertex} == {"file a", "step `[2/3] COPY a d /c/`"}
