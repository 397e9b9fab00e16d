"""How transfers are shown: lines that can be read in a log, one line that is redrawn on a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from img_core.cli import _transfers
from img_core.cli._transfers import showing_transfers

MEBIBYTE = 1 << 20
DIGEST = "sha256:" + "a" * 64


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the clock by one that the test sets."""
    now = [0.0]
    monkeypatch.setattr(_transfers.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_few_lines_with_bytes_and_rates(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with showing_transfers("pulling") as status:
        for second in range(11):
            clock[0] = float(second)
            status(DIGEST, second * MEBIBYTE, 10 * MEBIBYTE)
        status(DIGEST, 10 * MEBIBYTE, 10 * MEBIBYTE)
    assert capsys.readouterr().err.splitlines() == [
        f"pulling {DIGEST} 5MiB / 10MiB 1MiB/s",
        f"pulling {DIGEST} 10MiB / 10MiB 1MiB/s done",
    ]


def test_small_blobs_are_not_told(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with showing_transfers("pushing") as status:
        status(DIGEST, 100, 100)
    assert capsys.readouterr().err == ""


def test_a_terminal_sees_one_line_that_goes_away(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with showing_transfers("pulling") as status:
        clock[0] = 1.0
        status(DIGEST, 0, 4 * MEBIBYTE)
        clock[0] = 2.0
        status("other", 0, 4 * MEBIBYTE)
        clock[0] = 3.0
        status(DIGEST, 2 * MEBIBYTE, 4 * MEBIBYTE)
    shown = terminal.getvalue()
    assert "\n" not in shown
    assert "pulling 2MiB / 8MiB" in shown
    assert shown.endswith("\r\x1b[K")


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with showing_transfers("pulling", quiet=True) as status:
        status(DIGEST, MEBIBYTE, MEBIBYTE)
    assert capsys.readouterr().err == ""
