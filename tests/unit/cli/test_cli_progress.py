"""Choosing how progress is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from img_core.cli._output import say
from img_core.cli._progress import choose, showing
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


def test_what_is_said_meanwhile_goes_through_the_plugin(
    plugins: Plugins, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = plugins.driver("progress", "plain")
    monkeypatch.setattr(plain, "note", lambda self, text: self.stream.write(f"[{text}]"))
    with showing(["plain"], plugins):
        say("inside")
    say("outside")
    assert capsys.readouterr().err == "[inside]outside\n"
