"""Each library says what it is, what it has and of which version it is, and costs nothing to import."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.repository import ROOT

LIBRARIES = [f"img_core.{name}" for name in ("linux", "forms", "files", "archives", "images", "net")] + sorted(
    path.parent.name for path in ROOT.glob("plugins/img_lib_*/__init__.py")
)


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_says_one_sentence_and_lists_what_is_in_it(name: str) -> None:
    library = importlib.import_module(name)
    assert library.__doc__ is not None
    assert re.fullmatch(r"[^\n]{10,}[.]", library.__doc__)
    assert re.fullmatch(r"\d+\.\d+", library.__version__)
    (folder,) = library.__path__
    modules = {path.stem for path in Path(folder).glob("*.py")} | {
        path.parent.name for path in Path(folder).glob("*/__init__.py")
    }
    public = {module for module in modules if not module.startswith("_")}
    assert public <= set(library.__all__)
    assert sorted(library.__all__, key=str.lower) == sorted(set(library.__all__), key=str.lower)
    for listed in set(library.__all__) - public:
        assert hasattr(library, listed), listed
    assert (ROOT / f"docs/reference/libraries/{name.rpartition('.')[2]}.md").is_file()


def test_importing_the_libraries_of_the_core_imports_none_of_their_modules() -> None:
    names = [name for name in LIBRARIES if name.startswith("img_core.")]
    code = f"import sys, {', '.join(names)}; print(sorted(n for n in sys.modules if n.startswith('img_') and n.count('.') > 1))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])},
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
