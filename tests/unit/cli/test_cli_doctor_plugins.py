"""What plugins add to `img doctor`, whatever they do."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from img_core.cli.doctor import _listeners
from img_core.plugins import Found
from img_core.plugins._register import hook_manager, register_listener
from img_core.spec import Finding, ImgError, hookimpl
from img_core.spec.errors import PluginError
from img_core.testing.results import host

Check = Callable[..., Any]


def plugins(**checks: Check) -> Any:
    """Return what stands for all plugins: a listener for each of *checks*."""
    manager = hook_manager()
    for name, check in checks.items():
        module = ModuleType(f"img_listener_{name}")
        module.img_doctor = hookimpl(check)  # type: ignore[attr-defined]
        register_listener(manager, Found("listener", name, module.__name__, f"img-{name}", "1"), module)
    return SimpleNamespace(listeners=lambda: manager.hook)


def found(tmp_path: Path, *, patience: float = 30.0, **checks: Check) -> list[Finding]:
    return list(_listeners.checks(plugins(**checks), host(tmp_path), patience=patience))


def good(host: Any) -> Sequence[Finding]:
    return [Finding("ok", "mine", f"for {host.mapping}"), Finding("note", "other", "two\nlines", "`a hint`")]


def test_what_plugins_find_is_in_the_report_as_lines(tmp_path: Path) -> None:
    first, second = found(tmp_path, good=good)
    assert first == Finding("ok", "mine", "for none")
    assert (second.hint, "\n" in second.text) == ("`a hint`", False)


def raises(host: Any) -> None:
    raise ValueError("broken\non purpose")


def refuses(host: Any) -> None:
    raise ImgError("no such service", hint="`start it`")


def leaves(host: Any) -> None:
    sys.exit(3)


def nothing(host: Any) -> None:
    return None


def without_arguments() -> Sequence[Finding]:
    return [Finding("ok", "plain", "works")]


def wrong(host: Any) -> Any:
    return [("ok", "mine", "text")]


def wrong_status(host: Any) -> Any:
    return [Finding("splendid", "mine", "text")]  # type: ignore[arg-type]


def generator(host: Any) -> Any:
    yield Finding("ok", "mine", "text")


ODD: dict[str, tuple[Check, list[tuple[str, str]]]] = {
    "raises": (raises, [("worse", "its check failed: ValueError: broken\\non purpose")]),
    "refuses": (refuses, [("worse", "no such service")]),
    "leaves": (leaves, [("worse", "its check failed: SystemExit: 3")]),
    "nothing": (nothing, []),
    "no arguments": (without_arguments, [("ok", "works")]),
    "wrong": (wrong, [("worse", "plugin listener:odd of img-odd 1 must return a list of Finding or None, not one with tuple")]),
    "wrong status": (wrong_status, [("worse", "must return findings whose status is ok, note, worse, bad, not 'splendid'")]),
    "generator": (generator, [("worse", "must return a list of Finding or None, not generator")]),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_an_odd_check_is_a_line_and_the_others_are_heard(tmp_path: Path, case: str) -> None:
    check, wanted = ODD[case]
    findings = found(tmp_path, good=good, odd=check)
    assert {"mine", "other"} <= {finding.what for finding in findings}
    odd = [finding for finding in findings if finding.what in ("listener odd", "plain")]
    assert len(odd) == len(wanted)
    for finding, (status, text) in zip(odd, wanted, strict=True):
        assert finding.status == status
        assert text in finding.text
        assert finding.text.isprintable()


def test_a_check_that_never_ends_is_given_up(tmp_path: Path) -> None:
    release = threading.Event()

    def sleeps(host: Any) -> None:
        release.wait(60)

    try:
        findings = found(tmp_path, patience=0.3, good=good, slow=sleeps)
    finally:
        release.set()
    (slow,) = [finding for finding in findings if finding.what == "listener slow"]
    assert slow == Finding(
        "worse", "listener slow", "its check gave no answer in 0.3 seconds", "do without: `--no-plugin listener:slow`"
    )
    assert any(finding.what == "mine" for finding in findings)


def test_a_listener_that_cannot_be_loaded_is_left_to_the_list_of_plugins(tmp_path: Path) -> None:
    def listeners() -> None:
        raise PluginError("broken")

    assert list(_listeners.checks(SimpleNamespace(listeners=listeners), host(tmp_path))) == []  # type: ignore[arg-type]
