"""Pushes and pulls that are understood without click: they mean what click makes of them, and whatever is not plain is left to click."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from img_core.cli import COMPLETION_VARIABLE, _frame, _plain, _push_pull, pull, push
from img_core.linux import stdout

if TYPE_CHECKING:
    from unit.cli.conftest import Run

Asked = list[tuple[str, Any, tuple[object, ...], dict[str, object]]]  # Any: settings

PLAIN = [
    ["push", "app"],
    ["push", "app", "registry.example/app:1"],
    ["push", "sha256:" + "1" * 64, "registry.example/app:1"],
    ["push", "push", "pull"],
    ["pull", "alpine:3.22"],
    ["pull", "not a name"],
    ["-s", "/state", "push", "app", "app:2"],
    ["--state", "/state", "pull", "app@sha256:" + "1" * 64],
    ["-s", "push", "pull", "push"],
]
LEFT = [
    [],
    ["push"],
    ["pull"],
    ["pull", "one", "two"],
    ["push", "one", "two", "three"],
    ["push", ""],
    ["-s", "", "push", "app"],
    ["-s", "/state"],
    ["-s", "/state", "push"],
    ["-s"],
    ["-s=/state", "push", "app"],
    ["-s", "-d", "push", "app"],
    ["-d", "push", "app"],
    ["-s", "/state", "-d", "push", "app"],
    ["push", "-q", "app"],
    ["push", "app", "--help"],
    ["pull", "--", "app"],
    ["pull", "app", "-s=/state"],
    ["--trace", "file", "pull", "app"],
    ["image", "push", "app"],
    ["help", "push"],
    ["tag", "push", "app"],
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What was asked of the work of pushes and pulls, which is not done."""
    heard: Asked = []
    for name, command in (("push", push), ("pull", pull)):

        def hear(settings: Any, *names: object, _name: str = name, **flags: object) -> None:  # Any: settings
            heard.append((_name, settings, names, {flag: value for flag, value in flags.items() if value}))

        monkeypatch.setattr(command, name, hear)
        monkeypatch.setattr(_push_pull, name, hear)
    monkeypatch.setattr(stdout, "reserve", lambda: None)
    return heard


@pytest.mark.parametrize("words", PLAIN, ids=" ".join)
def test_what_is_plain_means_what_click_makes_of_it(words: list[str], asked: Asked) -> None:
    _frame.run(words)
    plain = _plain.understood(words)
    assert plain is not None
    plain()
    by_click, without = asked
    assert by_click == without


@pytest.mark.parametrize("words", LEFT, ids=" ".join)
def test_what_is_not_plain_is_left_to_click(words: list[str]) -> None:
    assert _plain.understood(words) is None


def test_a_shell_that_asks_for_completions_is_answered_by_click(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMPLETION_VARIABLE, "bash_complete")
    assert _plain.understood(["push", "app"]) is None


@pytest.mark.parametrize(
    "words", [["push", "no such name"], ["push", "missing"], ["pull", "no such name"], ["push", "1" * 64]], ids=" ".join
)
def test_mistakes_are_told_in_the_same_words(words: list[str], run: Run) -> None:
    """``--debug=false`` changes nothing but that click reads the words."""
    plain, by_click = run(*words), run(*words, "--debug=false")
    assert (plain.returncode, plain.stdout, plain.stderr) == (by_click.returncode, by_click.stdout, by_click.stderr)
    assert "Error: " in plain.stderr
