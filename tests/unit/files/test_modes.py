"""``--chmod`` means what setmode(3) does, and so BuildKit; for plain permissions that is what chmod(1) does."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from img_core.files.modes import parse_mode
from img_core.spec.errors import UsageError

WHO = st.text("ugoa", min_size=1, max_size=2)
PERMISSIONS = st.one_of(st.text("rwx", max_size=3), st.sampled_from("ugo"))
ACTIONS = st.lists(st.tuples(st.sampled_from("+-="), PERMISSIONS), min_size=1, max_size=2)
CLAUSES = st.lists(st.tuples(WHO, ACTIONS), min_size=1, max_size=3)


def text_of(clauses: list[tuple[str, list[tuple[str, str]]]]) -> str:
    return ",".join(who + "".join(operator + what for operator, what in actions) for who, actions in clauses)


@settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(CLAUSES, st.sampled_from([0o644, 0o755, 0o600, 0o751, 0o777, 0o000]), st.booleans())
def test_symbolic_modes_without_special_bits_are_those_of_chmod(
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


FILE, DIRECTORY = False, True


@pytest.mark.parametrize(
    ("text", "before", "directory", "after"),
    [
        ("u=rwx", 0o6755, FILE, 0o2755),
        ("g=rx", 0o6755, FILE, 0o4755),
        ("o=rx", 0o7755, FILE, 0o7755),
        ("a=rx", 0o7777, FILE, 0o1555),
        ("=rx", 0o7777, DIRECTORY, 0o1555),
        ("u=rwx,go=rx", 0o7777, DIRECTORY, 0o1755),
        ("=", 0o7777, FILE, 0o1000),
        ("u=", 0o6755, DIRECTORY, 0o2055),
        ("a=t", 0o6755, FILE, 0o1000),
        ("=t", 0o6755, FILE, 0o7755),
        ("+t", 0o0755, DIRECTORY, 0o1755),
        ("-t", 0o7755, DIRECTORY, 0o6755),
        ("o+t", 0o0755, DIRECTORY, 0o0755),
        ("+xt", 0o0644, FILE, 0o1644),
        ("u+t", 0o0644, FILE, 0o1644),
        ("a=rwxt", 0o0000, FILE, 0o1777),
        ("u+s", 0o0755, FILE, 0o4755),
        ("g+s", 0o0755, FILE, 0o2755),
        ("o+s", 0o0755, FILE, 0o0755),
        ("+s", 0o0755, FILE, 0o6755),
        ("ug=s", 0o0777, FILE, 0o6007),
        ("u-s", 0o6755, FILE, 0o2755),
        ("g=u", 0o6745, FILE, 0o6775),
        ("go=u-w", 0o0640, FILE, 0o0644),
        ("=u", 0o0640, FILE, 0o0666),
        ("g=ux", 0o0600, FILE, 0o0610),
        ("u=gX", 0o0641, FILE, 0o0541),
        ("+w", 0o0444, FILE, 0o0666),
        ("=rw", 0o0000, FILE, 0o0666),
        ("+X", 0o0644, FILE, 0o0644),
        ("+X", 0o0644, DIRECTORY, 0o0755),
        ("-x+X", 0o0755, FILE, 0o0755),
        ("a-X", 0o0755, FILE, 0o0644),
        ("u=rwX,go=rX", 0o0600, DIRECTORY, 0o0755),
        ("u=rwX,go=rX", 0o4710, FILE, 0o0755),
    ],
)
def test_symbolic_modes_are_those_of_setmode(text: str, before: int, directory: bool, after: int) -> None:
    assert oct(parse_mode(text).apply(before, directory=directory)) == oct(after)


@pytest.mark.parametrize(("text", "mode"), [("0", 0), ("7", 0o7), ("0755", 0o755), ("4755", 0o4755), ("07777", 0o7777)])
def test_octal_modes_replace_everything(text: str, mode: int) -> None:
    assert parse_mode(text).apply(0o1234, directory=True) == mode


def test_no_text_changes_nothing() -> None:
    assert parse_mode("").apply(0o106751, directory=False) == 0o6751


@pytest.mark.parametrize("text", ["8", "99", "10000", "-1", "rwx", "u", "u=q", "u=rw,", ",u=r", "u=gz", "u +x", "\n"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid chmod parameter"):
        parse_mode(text)
