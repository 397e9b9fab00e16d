"""What is recorded of a command, and that nothing is unless somebody asks."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from harness.repository import ROOT

RECORD = """
import os, sys, threading
from img_core.linux import spans
off = spans.span("a")
assert off is spans.span("b", "other"), "nothing is made while nothing is recorded"
with off:
    pass
spans.begin()
import html
with spans.span("outer", url="https://joe:secret@host/path"):
    with spans.span("inner", "named"):
        pass
worker = threading.Thread(target=lambda: spans.span("aside").__enter__().__exit__(None, None, None), name="helper")
worker.start()
worker.join()
if os.fork() == 0:
    os._exit(0 if spans.document() == b'{"traceEvents":[]}' else 1)
assert os.wait()[1] == 0, "a forked process has no record"
sys.stdout.write(spans.document().decode())
"""


def recorded() -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", RECORD], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)}
    )
    events: list[dict[str, Any]] = json.loads(done.stdout)["traceEvents"]
    return events


def test_spans_are_events_that_lie_within_each_other() -> None:
    events = recorded()
    spans = {event["name"]: event for event in events if event["ph"] == "X"}
    assert {"interpreter", "html", "html.entities", "outer", "named", "aside"} <= set(spans)
    for inner, outer in [("html.entities", "html"), ("named", "outer")]:
        assert spans[outer]["ts"] <= spans[inner]["ts"]
        assert spans[inner]["ts"] + spans[inner]["dur"] <= spans[outer]["ts"] + spans[outer]["dur"]
    assert (spans["named"]["cat"], spans["html"]["cat"]) == ("inner", "import")
    assert min(event["ts"] for event in spans.values()) == 0
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert names[spans["aside"]["tid"]] == "helper"
    assert names[spans["outer"]["tid"]] == "MainThread"


def test_a_password_in_an_address_is_not_recorded() -> None:
    (outer,) = [event for event in recorded() if event["name"] == "outer"]
    assert outer["args"]["url"].startswith("https://")
    assert "secret" not in json.dumps(outer)
