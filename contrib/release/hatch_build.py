"""Put the manual pages and the completion scripts into the wheel (hatchling's build hook, see pyproject.toml)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualHook(BuildHookInterface):  # type: ignore[type-arg]  # of any builder
    """Makes them in a temporary directory while a wheel is built; an editable installation goes without."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # Any: hatchling
        """Make the files and name them to the builder."""
        if version == "editable":
            return
        self._made = tempfile.TemporaryDirectory()
        made = Path(self._made.name)
        subprocess.run([sys.executable, str(Path(self.root) / "contrib/docs/manual.py"), str(made)], check=True)
        build_data["shared_data"] = {
            str(path): str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()
        }

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # Any: hatchling
        """Remove them again."""
        if version != "editable":
            self._made.cleanup()
