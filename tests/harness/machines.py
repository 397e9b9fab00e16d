"""Several machines that share a cache: a state directory and a process for each."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.build_server import BuildServer, Built, build_server
from harness.img import environment, remove_as_mapped_root
from img_core.testing.registry import DockerRegistry

__all__ = ["Machines", "places"]


@dataclass
class Machines:
    """State directories at different places, each with a process of its own."""

    directory: Path
    seed: Path
    context: Path
    made: list[tuple[BuildServer, Any, Path]] = field(default_factory=list)

    def new(self) -> BuildServer:
        home = self.directory / f"machine-{len(self.made)}" / ("x" * len(self.made))
        home.mkdir(parents=True)
        shutil.copytree(self.seed, home / "state")
        manager = build_server(home / "state", environment(home))
        self.made.append((manager.__enter__(), manager, home / "state"))
        return self.made[-1][0]

    def build(self, machine: BuildServer, **request: Any) -> Built:
        return machine.build(self.context, None, **request)

    def close(self) -> None:
        for _, manager, state in self.made:
            manager.__exit__(None, None, None)
            remove_as_mapped_root(state)


def places(kind: str, directory: Path, registry: DockerRegistry, **options: str) -> tuple[Any, Any]:
    """Return ``--cache-to`` and ``--cache-from`` for one place."""
    if kind == "local":
        return [["local", {"dest": str(directory / "cache"), **options}]], [
            ["local", {"src": str(directory / "cache")}]
        ]
    name = f"{registry.address}/{directory.name.lower().replace('[', '-').strip(']')}:cache"
    return [["registry", {"ref": name, **options}]], [["registry", {"ref": name}]]
