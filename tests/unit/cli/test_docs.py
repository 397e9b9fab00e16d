"""The pages of the reference that are made from something else are up to date."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


MADE_BY = [
    "catalogue.py",
    "commands.py",
    "contracts.py",
    "differences.py",
    "dockerfile.py",
    "libraries.py",
    "unmodified.py",
]


@pytest.mark.parametrize("script", MADE_BY)
def test_a_made_page_is_up_to_date(script: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "contrib/docs" / script), "--check"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])},
    )
    assert done.returncode == 0, done.stderr


def test_every_command_has_a_section() -> None:
    from img_core.cli._commands import COMMANDS, GROUP_COMMANDS

    text = (ROOT / "docs/reference/commands.md").read_text()
    assert [line.removeprefix("## img ") for line in text.splitlines() if line.startswith("## img ")] == sorted(
        [*COMMANDS, *GROUP_COMMANDS]
    )


def test_every_hook_and_every_contract_has_a_section() -> None:
    import img_core.spec
    from img_core.spec import hooks

    text = (ROOT / "docs/reference/contracts.md").read_text()
    documented = {line.split()[1] for line in text.splitlines() if line.startswith("### ")}
    hooked = {name for name in vars(hooks) if name.startswith("img_")}
    classes = {name for name in img_core.spec.__all__ if isinstance(getattr(img_core.spec, name), type)}
    assert len(hooked) > 20
    assert (hooked | classes) - documented == set()
