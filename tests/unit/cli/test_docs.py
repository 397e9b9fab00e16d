"""The reference of the commands is made from their help pages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_of_commands_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "contrib/docs/commands.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])},
    )
    assert done.returncode == 0, done.stderr


def test_every_command_has_a_section() -> None:
    from img_core.cli._commands import COMMANDS

    text = (ROOT / "docs/reference/commands.md").read_text()
    assert [line.removeprefix("## img ") for line in text.splitlines() if line.startswith("## img ")] == sorted(
        COMMANDS
    )
