"""Choosing how progress is shown."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from img_core.cli._output import say
from img_core.cli._progress import choose, is_machine_readable, showing
from img_core.config import Config
from img_core.plugins import Plugins
from img_core.spec import PluginError, StepStarted, UsageError


@pytest.fixture
def plugins(tmp_path: Path) -> Plugins:
    return Plugins(
        Config(state_directory=str(tmp_path), config_directory=str(tmp_path), order={"progress": ("tty", "plain")})
    )


@pytest.mark.parametrize(
    ("flag", "variable", "expected"),
    [("", "", ["plain"]), ("auto", "", ["plain"]), ("quiet", "plain", ["quiet"]), ("none", "", []), ("", "quiet", ["quiet"]),
     ("", "none", []), ("", "fancy", ["plain"])],
)  # fmt: skip
def test_the_flag_wins_over_the_variable(flag: str, variable: str, expected: list[str], plugins: Plugins) -> None:
    assert choose(flag, {"BUILDKIT_PROGRESS": variable}, plugins) == expected


def test_an_unknown_flag_is_refused(plugins: Plugins) -> None:
    with pytest.raises(UsageError, match="unknown progress `fancy`"):
        choose("fancy", {}, plugins)


def test_a_broken_first_choice_gives_way_to_the_next(plugins: Plugins, capsys: pytest.CaptureFixture[str]) -> None:
    with showing(["missing", "plain"], plugins) as show:
        assert show is not None
        show(StepStarted("a", "A", 0.0))
    assert capsys.readouterr().err == "#1 A\n"


def test_a_single_broken_choice_is_an_error(plugins: Plugins) -> None:
    with pytest.raises(PluginError, match="no progress is named `missing`"), showing(["missing"], plugins):
        pass


def test_without_any_progress_nobody_wants_events(plugins: Plugins) -> None:
    with showing([], plugins) as show:
        assert show is None


def test_a_terminal_is_needed_for_tty(plugins: Plugins) -> None:
    with pytest.raises(UsageError, match="needs a terminal"):
        choose("tty", {}, plugins)


def test_the_variable_may_ask_for_what_cannot_be_had_here(plugins: Plugins) -> None:
    assert choose("", {"BUILDKIT_PROGRESS": "tty"}, plugins) == ["plain"]


@pytest.mark.parametrize(("terminal", "expected"), [("xterm", ["tty", "plain"]), ("dumb", ["plain"]), ("", ["plain"])])
def test_auto_draws_on_terminals_that_can_be_drawn_on(
    terminal: str, expected: list[str], plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert choose("", {"TERM": terminal}, plugins) == expected


def test_what_is_said_meanwhile_goes_through_the_plugin(
    plugins: Plugins, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = plugins.driver("progress", "plain")
    monkeypatch.setattr(plain, "note", lambda self, text: self.stream.write(f"[{text}]"))
    with showing(["plain"], plugins):
        say("inside")
    say("outside")
    assert capsys.readouterr().err == "[inside]outside\n"


def test_only_what_programs_read_is_machine_readable(plugins: Plugins) -> None:
    assert is_machine_readable(["rawjson"], plugins)
    assert not any(is_machine_readable([name], plugins) for name in ("plain", "quiet", "tty"))
    assert not is_machine_readable([], plugins)
