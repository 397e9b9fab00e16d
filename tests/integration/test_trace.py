"""The trace of a whole build and of a pull: each kind of work has its spans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.img import Img, write_context
from img_core.testing.images import make_image
from img_core.testing.registry import DockerRegistry

pytestmark = pytest.mark.rootless


def spans(path: Path) -> list[dict[str, Any]]:
    return [event for event in json.loads(path.read_text())["traceEvents"] if event["ph"] == "X"]


def test_a_build_shows_where_its_time_goes(img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path, "FROM busybox\nRUN echo hello > /hello\n", {})
    trace = tmp_path / "trace.json"
    img.run("build", "-t", "out", "--trace", str(trace), str(context)).ok()
    found = spans(trace)
    assert {"import", "namespace", "store", "plan", "step", "database", "files", "command"} <= {
        event["cat"] for event in found
    }
    names = [event["name"] for event in found if event["cat"] == "step"]
    assert [name for name in names if name.endswith("RUN echo hello > /hello")]
    assert {"prepare", "execute", "commit"} <= set(names)


def test_a_pull_shows_requests_without_their_queries(img: Img, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    with DockerRegistry(tmp_path / "registry") as registry:
        reference = registry.add("app", "1", make_image([{"file": b"x" * 200_000}]))
        img.run("pull", "--trace", str(trace), reference).ok()
    found = spans(trace)
    requests = [event["name"] for event in found if event["cat"] == "http" and event["name"] != "receive"]
    assert "GET /v2/app/manifests/1" in requests
    assert not [name for name in requests if "?" in name]
    assert {"receive", "write"} <= {event["name"] for event in found}
