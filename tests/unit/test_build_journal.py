"""The listener that writes the log of a build: what it writes is what is read, and it takes next to no time."""

from __future__ import annotations

import errno
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from img_core.api._journal import described
from img_core.api._request import BuildRequest
from img_core.files import event_log
from img_core.files.build_log import BuildLog, recorded_builds
from img_core.files.event_log import events_of
from img_core.files.logs import LogFile, find_log
from img_core.spec.errors import Canceled, NotFoundError, StepError
from img_core.spec.progress import (
    Event,
    StepFinished,
    StepLog,
    StepPlanned,
    StepStarted,
    StepStatus,
    WarningRaised,
)

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64

EVENTS: tuple[Event, ...] = (
    StepPlanned(ONE, "[1/2] RUN one", 1.0),
    StepStarted(ONE, "[1/2] RUN one", 1.5, (TWO,)),
    StepLog(ONE, 1, b"text \xff\xc3", 2.0),
    StepLog(ONE, 2, b"\xa9\x00\n", 2.1),
    StepStatus(ONE, "sha256:abc", 2.2, 5, 10, finished=False),
    StepStatus(ONE, "sha256:abc", 2.25, 7, 10, finished=False),
    StepStatus(ONE, "sha256:abc", 2.3, 10, 10, outcome="done"),
    StepFinished(ONE, 3.0),
    StepStarted(TWO, "[2/2] RUN two", 3.0),
    StepFinished(TWO, 3.1, cached=True),
    WarningRaised("mind the gap", 3.2, rule="Gap", file="Dockerfile", line=3, excerpt="x"),
)
#: Plans, and how a part got on between its beginning and its end, do not last.
LASTING = tuple(event for number, event in enumerate(EVENTS) if number not in (0, 5))


@dataclass(frozen=True)
class Place:
    """What the journal asks of a host."""

    state_directory: str
    run_directory: str


def journal(tmp_path: Path, request: BuildRequest | None = None, **more: Any) -> BuildLog:
    notice = more.get("notice", pytest.fail)
    host = Place(str(tmp_path), f"{tmp_path}/run")
    return BuildLog(str(tmp_path), described(request or BuildRequest(), host), notice)  # type: ignore[arg-type]


def written(tmp_path: Path, **more: Any) -> list[Event]:
    return list(events_of(str(tmp_path), find_log(str(tmp_path), "last"), **more))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    log = journal(tmp_path)
    log.counted = {ONE, TWO}
    for event in EVENTS:
        log.take(event)
    log.end("sha256:d")
    assert tuple(written(tmp_path)) == LASTING
    assert written(tmp_path, step=2) == [EVENTS[8], EVENTS[9]]
    (build,) = recorded_builds(str(tmp_path))
    assert (build.result, build.steps, build.cached_steps, build.digest) == ("ok", 2, 1, "sha256:d")
    with pytest.raises(NotFoundError, match="has no step 3"):
        written(tmp_path, step=3)


@pytest.mark.parametrize(
    ("error", "result", "message"),
    [
        pytest.param(StepError("it failed"), "failed", "it failed", id="failed"),
        pytest.param(StepError("https://me:pw@host/ failed"), "failed", "https://***@host/ failed", id="redacted"),
        pytest.param(Canceled(), "canceled", "", id="canceled"),
        pytest.param(KeyboardInterrupt(), "canceled", "", id="interrupted"),
        pytest.param(ValueError("bug"), "failed", "ValueError('bug')", id="bug"),
    ],
)
def test_the_end_is_told(error: BaseException, result: str, message: str, tmp_path: Path) -> None:
    journal(tmp_path).end(None, error)
    (build,) = recorded_builds(str(tmp_path))
    assert (build.result, build.error) == (result, message)


@pytest.mark.parametrize(
    ("request_", "context", "definition"),
    [
        pytest.param(BuildRequest("/a"), "/a", "", id="directory"),
        pytest.param(BuildRequest("/a", dockerfile="b"), "/a", "b", id="file"),
        pytest.param(BuildRequest("/a", definition=b"FROM x"), "/a", "-", id="text"),
        pytest.param(BuildRequest("https://me:pw@host/a.git"), "https://***@host/a.git", "", id="address"),
        pytest.param(BuildRequest("{}/run/stdin"), "-", "", id="standard-input"),
    ],
)
def test_what_is_built_is_told(request_: BuildRequest, context: str, definition: str, tmp_path: Path) -> None:
    place = request_.context.format(tmp_path)
    journal(tmp_path, BuildRequest(place, dockerfile=request_.dockerfile, definition=request_.definition)).end(None)
    (build,) = recorded_builds(str(tmp_path))
    assert (build.context, build.definition) == (context, definition)


def test_output_without_end_is_cut_and_the_rest_of_the_build_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "_LIMIT", 10_000)
    log = journal(tmp_path)
    log.take(StepStarted(ONE, "one", 1.0))
    for _ in range(100):
        log.take(StepLog(ONE, 1, b"x" * 1000, 1.0))
    log.take(StepFinished(ONE, 2.0))
    log.end(None, StepError("x"))
    events = written(tmp_path)
    assert len(events) < 15
    assert [event.text for event in events if isinstance(event, WarningRaised)] == [
        "the rest of what the steps printed was too much to be kept"
    ]
    assert isinstance(events[-1], StepFinished)
    assert next(iter(recorded_builds(str(tmp_path)))).result == "failed"


def test_a_full_disk_is_one_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notices: list[str] = []
    log = journal(tmp_path, notice=notices.append)
    log.take(EVENTS[1])

    def full(_self: LogFile, _line: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LogFile, "append", full)
    for event in EVENTS:
        log.take(event)
    log.end(None)
    assert notices == ["the log of this build is not complete: no space left on device"]
    assert written(tmp_path) == [EVENTS[1]]


@pytest.mark.parametrize("torn", [b'{"event":"StepLog","st', b"\xff\xfe\n", b"[]\n", b'{"event":"Later"}\n'])
def test_what_cannot_be_read_is_passed_over(torn: bytes, tmp_path: Path) -> None:
    log = journal(tmp_path)
    log.take(EVENTS[1])
    log.end(None)
    (path,) = (tmp_path / "logs").iterdir()
    path.write_bytes(torn if not torn.endswith(b"\n") else path.read_bytes() + torn)
    assert written(tmp_path) == ([] if not torn.endswith(b"\n") else [EVENTS[1]])
    assert len(list(recorded_builds(str(tmp_path)))) == 1


def test_the_log_of_a_cached_build_takes_less_than_two_milliseconds(tmp_path: Path) -> None:
    """Of the processor, on a quiet machine, for 50 steps, beside the logs of many other builds; three times that on a busy one."""
    for _ in range(400):
        journal(tmp_path).end(None)
    steps = [f"sha256:{number:064d}" for number in range(50)]
    taken = []
    for _ in range(15):
        began = time.process_time()
        log = journal(tmp_path)
        log.counted = frozenset(steps)
        for step in steps:
            log.take(StepStarted(step, "[stage 12/50] RUN apt-get update && apt-get install -y things", 1.0, (ONE,)))
            log.take(StepFinished(step, 1.0, cached=True))
        log.end("")
        taken.append(time.process_time() - began)
    assert statistics.median(taken) < 0.002 * 3
