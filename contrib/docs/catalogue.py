"""Write docs/reference/catalogue.md from the metadata of this repository's distributions with plugins: run it after changing one.

With ``--check`` it only tells whether the page is up to date. Nothing is imported or installed: what a distribution says of itself stands
in its pyproject.toml, and which contract suites it passes in its tests.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pages import write_or_check

from img_core.spec.kinds import GROUPS

__all__ = ["distributions", "page", "suites"]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/reference/catalogue.md"
KEYWORD = "img-plugin"

HEAD = """# Catalogue

<!-- Made by contrib/docs/catalogue.py from pyproject.toml and the tests of each distribution; a test keeps it up to date. -->

Distributions with plugins that are made in this repository, beside img itself. Those of others have the keyword `img-plugin`, too.
`img plugins install NAME` installs one where img is; `img plugins check KIND:NAME` runs the contract suite of its kind wherever it is.

| Distribution | Version | Directory | Plugins | What it is for | Contract suites that its tests pass |
|---|---|---|---|---|---|
"""


def distributions() -> Iterator[tuple[Path, dict[str, Any]]]:  # Any: TOML
    """Give directory and table `project` of each distribution with the keyword, by name."""
    found = {}
    for path in [*ROOT.glob("plugins/img-*/pyproject.toml"), *ROOT.glob("contrib/img-*/pyproject.toml")]:
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        if KEYWORD in project.get("keywords", ()):
            found[str(project["name"])] = (path.parent, project)
    return (found[name] for name in sorted(found))


def suites(directory: Path) -> list[str]:
    """Return the names of the contract suites that the tests in *directory* subclass."""
    found = set()
    for path in sorted(directory.glob("tests/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found |= {base.id for base in node.bases if isinstance(base, ast.Name) and base.id.endswith("Contract")}
    return sorted(found)


def page() -> str:
    """Return the whole page."""
    return HEAD + "".join(_row(directory, project) for directory, project in distributions())


def _row(directory: Path, project: dict[str, Any]) -> str:
    kinds = {group: kind for kind, group in GROUPS.items()}
    entries = sorted(project.get("entry-points", {}).items())
    names = [f"`{kinds.get(group, group)}:{name}`" for group, words in entries for name in sorted(words)]
    commands = [f"program `{name}`" for name in sorted(project.get("scripts", {}))]
    about = project["description"].removeprefix("img: ")
    tests = ", ".join(f"`{name}`" for name in suites(directory)) or "its own tests alone"
    where = directory.relative_to(ROOT)
    return f"| `{project['name']}` | {_version(project)} | `{where}` | {', '.join(names + commands)} | {about} | {tests} |\n"


def _version(project: dict[str, Any]) -> str:
    return str(project.get("version", "that of img"))


if __name__ == "__main__":
    write_or_check({PAGE: page()})
