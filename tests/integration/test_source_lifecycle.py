"""Sources that wait for others: stopped quickly, with nothing left running or lying about."""

from __future__ import annotations

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from harness.img import Img, write_context
from harness.processes import AT_ONCE, running, wait_until
from harness.web import Page, web_server

pytestmark = pytest.mark.rootless

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.fixture
def img(new_state) -> Img:  # type: ignore[no-untyped-def]
    """No base image is needed here."""
    return new_state(seeded=False)


def sleeping_git(img: Img, directory: Path, marker: str) -> Img:
    """Return the command with a git that sleeps for *marker* seconds, and a child of it that does so as well."""
    directory.mkdir()
    (directory / "git").write_text(f"#!/bin/sh\nsleep {marker} &\nsleep {marker}\n")
    (directory / "git").chmod(0o755)
    return img.with_environment(PATH=f"{directory}:{img.environment()['PATH']}")


@pytest.mark.parametrize(("signum", "status"), SIGNALS, ids=["INT", "TERM"])
@pytest.mark.parametrize("where", ["add", "context"])
def test_a_signal_ends_git(img: Img, tmp_path: Path, signum: signal.Signals, status: int, where: str) -> None:
    marker = f"8{os.getpid()}{int(signum)}{len(where)}"
    slow = sleeping_git(img, tmp_path / "bin", marker)
    url = "git://127.0.0.1:1/r.git"
    (tmp_path / "c").mkdir()
    context = url if where == "context" else write_context(tmp_path / "c", f"FROM scratch\nADD {url} /g\n")
    builder = slow.start("build", "-t", "never", context, log=tmp_path / "log")
    wait_until(lambda: len(running(f"sleep {marker}")) >= 1 or builder.poll() is not None, "git runs")
    builder.send_signal(signum)
    assert builder.wait(AT_ONCE) == status, (tmp_path / "log").read_text()
    wait_until(lambda: not running(f"sleep {marker}"), "git is gone")


def test_killing_the_builder_ends_git_and_the_next_command_cleans_up(img: Img, tmp_path: Path) -> None:
    marker = f"7{os.getpid()}"
    slow = sleeping_git(img, tmp_path / "bin", marker)
    (tmp_path / "c").mkdir()
    write_context(tmp_path / "c", "FROM scratch\nADD git://127.0.0.1:1/r.git /g\n")
    builder = slow.start("build", "-t", "never", tmp_path / "c", log=tmp_path / "log")
    wait_until(lambda: len(running(f"sleep {marker}")) >= 1 or builder.poll() is not None, "git runs")
    builder.kill()
    builder.wait()
    wait_until(lambda: not running(f"sleep {marker}"), "git is gone")
    write_context(tmp_path / "c", "FROM scratch\nCOPY Dockerfile /\n")
    img.build(tmp_path / "c").ok()
    assert not list(img.state.rglob("git-*"))


@pytest.mark.parametrize(("signum", "status"), SIGNALS, ids=["INT", "TERM"])
@pytest.mark.parametrize("where", ["add", "context"])
def test_a_signal_ends_the_wait_for_a_web_server(
    img: Img, tmp_path: Path, signum: signal.Signals, status: int, where: str
) -> None:
    asked, answer = threading.Event(), threading.Event()

    def hang(_request: BaseHTTPRequestHandler) -> int:
        asked.set()
        answer.wait(30)
        return 0

    with web_server() as web:
        web.pages["/f"] = Page(b"late", hook=hang)
        (tmp_path / "c").mkdir()
        url = f"{web.url}/f"
        context = url if where == "context" else write_context(tmp_path / "c", f"FROM scratch\nADD {url} /f\n")
        builder = img.start("build", "-t", "never", context, log=tmp_path / "log")
        assert asked.wait(60), (tmp_path / "log").read_text()
        builder.send_signal(signum)
        try:
            assert builder.wait(AT_ONCE) == status, (tmp_path / "log").read_text()
        finally:
            answer.set()
