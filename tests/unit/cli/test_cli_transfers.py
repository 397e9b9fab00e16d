"""How `img pull` and `img push` show their transfers: as one step, by the plugin that shows builds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from img_core.api._transfers import reporting
from img_core.cli._output import say
from img_core.cli._progress import choose, showing
from img_core.config import Config
from img_core.plugins import Plugins
from img_core.spec import Canceled, ImgError
from img_core.spec.progress import TransferStatus

MEBIBYTE = 1 << 20
DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def plugins(tmp_path: Path) -> Plugins:
    return Plugins(Config(state_directory=str(tmp_path), config_directory=str(tmp_path)))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the clocks by one that the test sets."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


@contextmanager
def shown(title: str, name: str, flag: str, plugins: Plugins, *, verb: str = "") -> Iterator[TransferStatus]:
    """Show the block as a command does."""
    with showing(choose(flag, {}, plugins), plugins, title=title) as show, reporting(name, show, verb=verb) as status:
        yield status


def test_a_log_gets_few_lines_with_bytes_and_rates(
    clock: list[float], plugins: Plugins, capsys: pytest.CaptureFixture[str]
) -> None:
    with shown("Pulling", "pulling x", "plain", plugins) as status:
        for second in range(21):
            clock[0] = 100.0 + second
            status(DIGEST, second * MEBIBYTE, 20 * MEBIBYTE)
        status(DIGEST, 20 * MEBIBYTE, 20 * MEBIBYTE, "done")
        status("sha256:b", 5, 5, "reused")
    assert capsys.readouterr().err.splitlines() == [
        "#1 pulling x",
        f"#1 {DIGEST} 2.00MiB / 20.00MiB 2.0s",
        f"#1 {DIGEST} 6.00MiB / 20.00MiB 6.0s",
        f"#1 {DIGEST} 14.00MiB / 20.00MiB 14.0s",
        f"#1 {DIGEST} 20.00MiB / 20.00MiB 20.0s done (1.00MiB/s)",
        "#1 sha256:b 5B reused",
        "#1 DONE 20.0s",
        "",
    ]


def test_a_failed_transfer_ends_its_step(plugins: Plugins, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Canceled), shown("Pushing", "pushing x", "plain", plugins, verb="pushing"):
        raise Canceled
    assert capsys.readouterr().err == "#1 pushing x\n#1 CANCELED\n\n"


def test_a_failure_is_told_in_one_line(plugins: Plugins, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImgError), shown("Pulling", "pulling x", "plain", plugins):
        raise ImgError("x: not found")
    assert capsys.readouterr().err == "#1 pulling x\n#1 ERROR: x: not found\n\n"


def test_without_progress_there_is_only_what_is_said(plugins: Plugins, capsys: pytest.CaptureFixture[str]) -> None:
    with shown("Pulling", "pulling x", "none", plugins) as status:
        status(DIGEST, MEBIBYTE, MEBIBYTE, "done")
        say("warning: w")
    assert capsys.readouterr().err == "warning: w\n"
