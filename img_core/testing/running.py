"""Running contract suites from a program: each test is told as it ends, and a plugin that ends the process ends only the run."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import pytest

from img_core.spec.errors import ImgError, UsageError

__all__ = ["Outcome", "collected", "run_suites"]

#: What would change how pytest works; with ``CI`` it shows differences as a whole, which takes minutes for large ones.
_VARIABLES = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_CURRENT_TEST", "CI", "BUILD_NUMBER")
_NO_EXPRESSION = 4  #: pytest's status where it cannot read what it is given (its `ExitCode.USAGE_ERROR`)
_PATIENCE = 300.0  #: seconds of silence after which a test is taken for stuck


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test ended. *claim* is its name in words, *suite* that of its class, *status* ``passed``, ``failed`` or ``skipped``.

    *reason* is one line for what did not pass, *details* what pytest shows.
    """

    claim: str
    status: str
    seconds: float = 0.0
    reason: str = ""
    details: str = ""
    suite: str = ""


_suites: Mapping[str, type] = {}  #: of the run in this process; the module that pytest collects asks for them


def collected() -> Mapping[str, type]:
    """Return the suites of the run in this process, by the names under which pytest finds them."""
    return _suites


def run_suites(make: Callable[[], Mapping[str, type]], *, select: str = "") -> Iterator[Outcome]:
    """Make suites and run them in a child process; give each outcome as it comes.

    *select* is an expression over the names of tests, as ``pytest -k`` takes it. What keeps *make* from working, such as a plugin that
    cannot be imported, is a failed outcome, too.
    """
    # Made here, for who ends the process of the suites leaves what is in it; what they gave to other users is removed by them or by nobody.
    with tempfile.TemporaryDirectory(prefix="img-check-", ignore_cleanup_errors=True) as place:
        yield from _outcomes(make, select, place)


def _outcomes(make: Callable[[], Mapping[str, type]], select: str, place: str) -> Iterator[Outcome]:
    """Be `run_suites`, with the directory *place* for files."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _be_child(make, select, writer, place)
    os.close(writer)
    running = ""
    try:
        with open(reader, "rb", buffering=0) as news:
            for line in _lines(news.fileno()):
                record = json.loads(line)
                if "running" in record:
                    running = record["running"]
                    continue
                running = ""
                yield Outcome(**record)
    finally:
        if running:
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == _NO_EXPRESSION:
        raise UsageError(f"`{select}` is no expression over names of tests", hint="e.g. `kill or disk`")
    if running:
        yield Outcome(running, "failed", reason="it ends the process, or never comes to an end")
    elif status:
        yield Outcome("the suite runs to its end", "failed", reason=f"the process ended with status {status}")


def _lines(fd: int) -> Iterator[bytes]:
    """Give the lines that arrive at *fd*, until it is closed or silent for too long."""
    held = b""
    while select.select([fd], [], [], _PATIENCE)[0]:
        data = os.read(fd, 65536)
        if not data:
            return
        *whole, held = (held + data).split(b"\n")
        yield from whole


def _be_child(make: Callable[[], Mapping[str, type]], selected: str, writer: int, place: str) -> NoReturn:
    global _suites
    status = 3
    try:
        report = _Report(writer)
        # Nothing of this process and its children is cleaned up at their end, which is sudden; what they leave goes with *place*.
        tempfile.tempdir = os.environ["TMPDIR"] = place
        with open(os.devnull, "r+b") as nothing:
            for fd in (0, 1, 2):
                os.dup2(nothing.fileno(), fd)
        try:
            _suites = make()
        except BaseException as err:
            text, details = f"{type(err).__name__}: {err}", traceback.format_exc()
            if isinstance(err, ImgError):
                text, details = err.message, ""
            report.tell(Outcome("it can be loaded", "failed", 0.0, " ".join(text.split()), details))
            status = 0
        else:
            ended = _pytest(report, selected, place)
            status = 0 if ended in (0, 1, 5) else ended if ended == _NO_EXPRESSION else 3
    finally:
        os._exit(status)


def _pytest(report: _Report, selected: str, place: str) -> int:
    """Collect the suites of this process, and nothing that lies about where we happen to be."""
    from img_core.testing import _collected_suites

    for name in _VARIABLES:
        os.environ.pop(name, None)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.dont_write_bytecode = True
    words = ["-p", "no:terminal", "-p", "no:cacheprovider", "-p", "img_core.testing", "-c", os.devnull]
    words += ["--rootdir", place, "--basetemp", f"{place}/files", "--import-mode", "importlib", "-k", selected]
    status = int(pytest.main([*words, str(_collected_suites.__file__)], plugins=[report]))
    shutil.rmtree(place)
    return status


class _Report:
    """Tells of each test through a pipe."""

    def __init__(self, writer: int) -> None:
        self._writer = writer

    def tell(self, outcome: Outcome) -> None:
        self._write(asdict(outcome))

    def _write(self, record: Mapping[str, Any]) -> None:  # Any: JSON
        data = json.dumps(record).encode() + b"\n"
        while data:
            data = data[os.write(self._writer, data) :]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._write({"running": _claim(nodeid)})

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.tell(Outcome("its suite can be collected", "failed", 0.0, _reason(report), report.longreprtext))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:
            return
        if report.when == "teardown" and report.skipped:
            return
        shown = "" if report.passed else report.longreprtext
        reason = "" if report.passed else _reason(report)
        suite = report.nodeid.split("::")[-2]
        self.tell(Outcome(_claim(report.nodeid), report.outcome, round(report.duration, 3), reason, shown, suite))


def _claim(nodeid: str) -> str:
    """Return the name of a test in words."""
    name, bracket, parameters = nodeid.rpartition("::")[2].removeprefix("test_").partition("[")
    return name.replace("_", " ") + (f" [{parameters}" if bracket else "")


def _reason(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Return one line about what did not pass."""
    if isinstance(report.longrepr, tuple):  # a skip: file, line, reason
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = [line.strip() for line in str(crash.message if crash is not None else report.longreprtext).splitlines()]
    telling = [line for line in lines if line] or ["failed"]
    return telling[-1] if "Traceback (most recent call last)" in telling[0] else telling[0]
