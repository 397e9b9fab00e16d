"""The progress for programs: every line is an object with the fields of BuildKit's ``SolveStatus``."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import jsonschema

from img_core.spec import StepFinished, StepLog, StepPlanned, StepStarted, StepStatus, WarningRaised
from img_progress_rawjson._rawjson import RawJsonProgress

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
START = 1_700_000_000.25
STARTED = "2023-11-14T22:13:20.250000Z"

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/reference/rawjson.schema.json").read_text())


def written(*events: object, note: str = "") -> list[dict[str, Any]]:
    """Return the objects that *events* give; each fits the schema."""
    stream = io.StringIO()
    progress = RawJsonProgress(stream)
    for event in events:
        progress.handle(event)  # type: ignore[arg-type]
    if note:
        progress.note(note)
    progress.close()
    objects = [json.loads(line) for line in stream.getvalue().splitlines()]
    for item in objects:
        jsonschema.validate(item, SCHEMA)
    assert stream.getvalue() == "".join(json.dumps(item, separators=(",", ":")) + "\n" for item in objects)
    return objects


def test_a_step_is_a_vertex_from_its_plan_to_its_end() -> None:
    objects = written(
        StepPlanned(B, "[2/2] RUN ä", START, (A,)), StepStarted(B, "[2/2] RUN ä", START, (A,)), StepFinished(B, START + 1, cached=True)
    )  # fmt: skip
    vertex = {"digest": B, "name": "[2/2] RUN ä", "inputs": [A]}
    assert objects == [
        {"vertexes": [vertex]},
        {"vertexes": [{**vertex, "started": STARTED}]},
        {"vertexes": [{**vertex, "started": STARTED, "completed": "2023-11-14T22:13:21.250000Z", "cached": True}]},
    ]


def test_failed_and_canceled_steps_have_errors_that_buildkits_readers_know() -> None:
    ends = [
        written(StepStarted(A, "A", START), StepFinished(A, START, error="exit code: 1"))[-1]["vertexes"][0],
        written(StepStarted(A, "A", START), StepFinished(A, START, canceled=True))[-1]["vertexes"][0],
    ]
    assert [end["error"] for end in ends] == ["exit code: 1", "context canceled"]


def test_a_step_that_begins_again_is_not_completed() -> None:
    events = StepStarted(A, "A", START), StepFinished(A, START, cached=True), StepStarted(A, "A", START)
    assert written(*events)[-1] == {"vertexes": [{"digest": A, "name": "A", "started": STARTED}]}


def test_a_step_that_is_no_vertex_gets_a_digest() -> None:
    name = "[internal] load build definition from Dockerfile"
    objects = written(StepStarted(name, name, START), StepStatus(name, "x", START))
    digest = "sha256:" + hashlib.sha256(name.encode()).hexdigest()
    assert objects[0]["vertexes"][0]["digest"] == digest
    assert objects[1]["statuses"][0]["vertex"] == digest


def test_transfers_are_statuses() -> None:
    objects = written(
        StepStatus(A, B, START, 10, 40, finished=False),
        StepStatus(A, B, START + 1, 40, 40, outcome="done"),
        StepStatus(A, B, START + 2, 40, 40, outcome="exists"),
    )
    later, last = "2023-11-14T22:13:21.250000Z", "2023-11-14T22:13:22.250000Z"
    common = {"id": B, "vertex": A, "total": 40}
    assert [item["statuses"] for item in objects] == [
        [{**common, "current": 10, "timestamp": STARTED, "started": STARTED}],
        [{**common, "current": 40, "timestamp": later, "started": STARTED, "completed": later, "name": "done"}],
        [{**common, "current": 40, "timestamp": last, "started": last, "completed": last, "name": "exists"}],
    ]


def test_logs_are_bytes_as_they_came() -> None:
    data = bytes(range(256))
    (log,) = written(StepLog(A, 2, data, START))[0]["logs"]
    assert base64.b64decode(log.pop("data")) == data
    assert log == {"vertex": A, "stream": 2, "timestamp": STARTED}


def test_warnings_have_text_file_and_line() -> None:
    (warning,) = written(WarningRaised("use k=v", START, rule="Legacy", file="Dockerfile", line=3))[0]["warnings"]
    assert base64.b64decode(warning.pop("short")) == b"Legacy: use k=v (line 3)"
    assert warning == {
        "level": 1,
        "sourceInfo": {"filename": "Dockerfile"},
        "range": [{"start": {"line": 3}, "end": {"line": 3}}],
    }


def test_what_others_say_is_a_warning_too() -> None:
    (warning,) = written(note="warning: \udcff")[0]["warnings"]
    assert base64.b64decode(warning["short"]) == b"warning: \\udcff"


def test_any_text_gives_ascii_on_one_line() -> None:
    stream = io.StringIO()
    RawJsonProgress(stream).handle(StepStarted("\ud800\n\x1b", "x\n\u2028\x1b[2J\udcff", START))
    assert stream.getvalue().isascii()
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_a_reader_that_went_away_does_not_stop_the_build() -> None:
    stream = io.StringIO()
    progress = RawJsonProgress(stream)
    stream.close()
    progress.handle(StepStarted(A, "A", START))
