"""Check the arrows between packages (import-linter). The plugins are those that lie in ``plugins/``: nothing lists them twice.

python contrib/checks/imports.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"

#: The core above its libraries, from the top; a list stands for rooms that do not know each other.
CORE = [["cli"], ["api"], ["solver"], ["plugins", "store"], ["config"]]
#: The libraries, from the top.
LIBRARIES = [["net", "archives"], ["images", "files"], ["linux", "forms"]]


def packages() -> tuple[list[str], list[str]]:
    """Return the plugins and the libraries of plugins that are part of the main distribution."""
    names = sorted(path.parent.name for path in PLUGINS.glob("img_*/__init__.py"))
    libraries = [name for name in names if name.startswith("img_lib_")]
    return [name for name in names if name not in libraries], libraries


def private_api() -> list[str]:
    """Return the modules of the API beside `img_core.api` itself, which names all that is public."""
    found = (ROOT / "img_core/api").glob("*.py")
    return [f"api.{path.stem}" for path in sorted(found) if path.stem != "__init__"]


def contracts() -> list[dict[str, object]]:
    """Return the contracts in import-linter's words."""
    plugins, shared = packages()
    rooms = [name for level in CORE for name in level]
    libraries = [name for level in LIBRARIES for name in level]

    def forbidden(name: str, sources: list[str], targets: list[str], **more: object) -> dict[str, object]:
        return {"name": name, "type": "forbidden", "source_modules": sources, "forbidden_modules": targets, **more}

    def core(names: list[str]) -> list[str]:
        return [f"img_core.{name}" for name in names]

    return [
        forbidden("the core imports no plugin", ["img_core"], plugins),
        forbidden("the core imports no library of plugins", ["img_core"], shared, ignore_imports=LEFT),
        {"name": "plugins are independent of each other", "type": "independence", "modules": plugins},
        forbidden("plugins use only contracts and libraries", plugins + shared, core([*rooms, "testing"])),
        forbidden("libraries of plugins use no plugin", shared, plugins),
        forbidden(
            "the command line uses the public API alone",
            core(["cli"]),
            core(["solver", "store", *private_api()]),
            allow_indirect_imports="true",
        ),
        forbidden("the contracts import nothing of ours", core(["spec"]), core([*rooms, *libraries, "testing"])),
        {
            "name": "the rooms of the Dockerfile frontend",
            "type": "layers",
            "layers": [f"img_frontend_dockerfile.{room}" for room in ("_frontend", "planning", "lint", "syntax")],
        },
        {
            "name": "no circles among the modules of a room",
            "type": "acyclic_siblings",
            "ancestors": core(["api", "solver", "plugins", "store", "spec"]),
        },
        {
            "name": "arrows point one way",
            "type": "layers",
            "layers": [" | ".join(core(level)) for level in [*CORE, *LIBRARIES, ["spec"]]],
        },
    ]


#: What has still to find another way.
LEFT: list[str] = []


def main() -> int:
    """Run the check and return its status."""
    plugins, shared = packages()
    lines = ["[tool.importlinter]", f"root_packages = {json.dumps(['img_core', *plugins, *shared])}"]
    for contract in contracts():
        lines += [
            "[[tool.importlinter.contracts]]",
            *(f"{key} = {json.dumps(value)}" for key, value in contract.items()),
        ]
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write("\n".join(lines) + "\n")
        config.flush()
        path = os.pathsep.join(filter(None, [str(ROOT), str(PLUGINS), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path}
        command = ["lint-imports", "--no-cache", config.name]
        return subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
