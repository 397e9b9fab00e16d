"""``img plugins new``: what is refused, and that nothing is left then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

Run = Any  # the fixture of conftest.py


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("exportr", "x"), 2, "unknown kind of plugin `exportr`"),
        (("exporter", "Big"), 2, "`Big` cannot be a name"),
        (("exporter", "a--b"), 2, "`a--b` cannot be a name"),
        (("exporter", "../x"), 2, "`../x` cannot be a name"),
        (("exporter", "a" * 41), 2, "cannot be a name"),
        (("exporter", ""), 2, "cannot be a name"),
        (("exporter", "tar"), 2, "`exporter:tar` is there already"),
        (("command", "build"), 2, "`img build` means something else already"),
        (("exporter",), 2, "Missing argument"),
        (("exporter", "x", "--directory", "/nonexistent/there"), 1, "no such file or directory"),
    ],
)
def test_mistakes_leave_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, text: str
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    given = words if "--directory" in words else (*words, "--directory", str(place))
    done = run("plugins", "new", *given)
    assert done.returncode == code, done.stderr
    assert text in done.stderr
    assert list(place.iterdir()) == []


def test_what_is_there_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "img-exporter-x").mkdir()
    done = run("plugins", "new", "exporter", "x", "--directory", str(tmp_path))
    assert (done.returncode, "img-exporter-x` is there already" in done.stderr) == (2, True)
    assert list((tmp_path / "img-exporter-x").iterdir()) == []
    assert "img-exporter-x" in run("plugins", "new", "exporter", "y", "--directory", str(tmp_path)).stdout.replace(
        "y", "x"
    )
