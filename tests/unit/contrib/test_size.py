"""The core stays small, and what measures it counts what it says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from harness.repository import ROOT


@pytest.fixture(scope="module")
def size() -> ModuleType:
    spec = importlib.util.spec_from_file_location("size", ROOT / "contrib/checks/size.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_core_is_no_larger_than_it_may_be(size: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert size.main() == 0, capsys.readouterr().out
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {
        *(".", "api", "plugins", "solver", "spec", "store"),
        "core",
    }


TEXT = '''"""Module.

More.
"""

x = """kept
# kept
"""  # a comment


def f():
    """Docstring."""
    # comment
    return (
        x
    )
'''


def test_docstrings_comments_and_blank_lines_are_no_code(size: ModuleType) -> None:
    assert size.measured(TEXT) == (7, 16)


def test_what_outgrew_its_limit_is_an_error(size: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one.py", "api/two.py", "api/deep/three.py", "linux/four.py", "cli/five.py"):
        path = tmp_path / "img_core" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    assert size.rooms(tmp_path / "img_core") == {".": (1, 1), "api": (2, 2)}
    monkeypatch.setattr(size, "ROOT", tmp_path)
    monkeypatch.setattr(size, "LIMIT", 3)
    assert size.main() == 0
    monkeypatch.setattr(size, "LIMIT", 2)
    assert size.main() == 1
