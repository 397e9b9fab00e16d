"""``--chmod`` means what chmod(1) does."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from img_core.kit.copy import parse_mode
from img_core.spec.errors import UsageError

WHO = st.text("ugoa", max_size=2)
PERMISSIONS = st.one_of(st.text("rwxXst", max_size=3), st.sampled_from("ugo"))
ACTIONS = st.lists(st.tuples(st.sampled_from("+-="), PERMISSIONS), min_size=1, max_size=2)
CLAUSES = st.lists(st.tuples(WHO, ACTIONS), min_size=1, max_size=3)


def text_of(clauses: list[tuple[str, list[tuple[str, str]]]]) -> str:
    return ",".join(who + "".join(operator + what for operator, what in actions) for who, actions in clauses)


@settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(CLAUSES, st.sampled_from([0o644, 0o755, 0o600, 0o4751, 0o2775, 0o1777, 0o000, 0o6640]), st.booleans())
def test_symbolic_modes_are_those_of_chmod(
    clauses: list[tuple[str, list[tuple[str, str]]]], mode: int, directory: bool
) -> None:
    with tempfile.TemporaryDirectory() as base:
        path = base + "/entry"
        os.mkdir(path) if directory else os.close(os.open(path, os.O_CREAT, 0o600))
        os.chmod(path, mode)
        # As an own process: the mask belongs to the whole test session.
        command = 'umask 022; exec chmod -- "$@"'
        subprocess.run(["sh", "-c", command, "sh", text_of(clauses), path], check=False, stderr=subprocess.DEVNULL)
        expected = stat.S_IMODE(os.stat(path).st_mode)
        os.chmod(path, 0o700)
    assert oct(parse_mode(text_of(clauses)).apply(mode, directory=directory)) == oct(expected)


@pytest.mark.parametrize(("text", "mode"), [("0", 0), ("7", 0o7), ("0755", 0o755), ("4755", 0o4755), ("07777", 0o7777)])
def test_octal_modes_replace_everything(text: str, mode: int) -> None:
    assert parse_mode(text).apply(0o1234, directory=True) == mode


def test_no_text_changes_nothing() -> None:
    assert parse_mode("").apply(0o106751, directory=False) == 0o6751


@pytest.mark.parametrize("text", ["8", "99", "10000", "-1", "rwx", "u", "u=q", "u=rw,", ",u=r", "u=gx", "u +x", "\n"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid chmod parameter"):
        parse_mode(text)
