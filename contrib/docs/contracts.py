"""Write docs/reference/contracts.md (each hook, and the classes of each kind of driver) and docs/reference/options.md (what each driver
that comes with img takes) from the code: run it after changing one.

With ``--check`` it only tells whether the pages are up to date. `img_core.spec` is read, drivers are imported.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from libraries import comment
from pages import write_or_check

from img_core.spec.hooks import DRIVER_HOOKS
from img_core.spec.kinds import CONTRACTS, GROUPS, WITHOUT_OPTIONS

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs/reference"
SPEC = ROOT / "img_core/spec"
NOTE = "<!-- Made by contrib/docs/contracts.py from the code; a test keeps it up to date. -->"
#: modules of `img_core.spec` that drivers and listeners of several kinds use
SHARED = ("errors", "graph", "source_op", "host", "values")


def contracts() -> str:
    """Return the page of the hooks and of what drivers are derived from."""
    parts = [
        f"# Hooks and contracts\n\n{NOTE}\n\nAll names are in `img_core.spec`. [Plugins](plugins.md) explains how they are used.\n",
        "\n## Hooks\n",
        *(_function(node, "###") for node in _parsed(SPEC / "hooks.py").body if isinstance(node, ast.FunctionDef)),
    ]
    for kind, contract in CONTRACTS.items():
        if contract.startswith("img_core.spec."):
            path = SPEC / f"{contract.partition(':')[0].removeprefix('img_core.spec.')}.py"
            parts += [f"\n## {kind}\n", *_module(path)]
    for name in SHARED:
        parts += [f"\n## {name} (shared)\n", *_module(SPEC / f"{name}.py")]
    return "".join(parts)


def _module(path: Path) -> Iterator[str]:
    """Give the documents of what a module of the specification makes public."""
    tree = _parsed(path)
    yield f"\n{_text(tree)}\n"
    for node in tree.body:
        match node:
            case ast.ClassDef() if not node.name.startswith("_"):
                yield from _class(node, path)
            case ast.FunctionDef() if not node.name.startswith("_"):
                yield _function(node, "###")


def _class(node: ast.ClassDef, path: Path) -> Iterator[str]:
    bases = ", ".join(map(ast.unparse, node.bases))
    yield f"\n### {node.name}" + (f" ({bases})" if bases else "") + f"\n\n{_text(node)}\n"
    rows = []
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and not ast.unparse(item.target).startswith("_"):
            rows.append(_row(ast.unparse(item), comment(path, item.lineno)))
    if rows:
        yield "\n| Attribute | |\n|---|---|\n" + "".join(rows)
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
            yield _function(item, "####")


def _function(node: ast.FunctionDef, heading: str) -> str:
    """Return the document of a function, a method or a hook, with its signature."""
    words = {ast.unparse(item).partition("(")[0] for item in node.decorator_list}
    kinds = [text for word, text in _DECORATORS.items() if word in words]
    arguments = re.sub(r"^(self|cls)(, |$)", "", ast.unparse(node.args))
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    about = f"*{', '.join(kinds)}*\n\n" if kinds else ""
    return (
        f"\n{heading} {node.name}\n\n`{node.name}({arguments}){returned}`\n\n{about}{_text(node)}\n".rstrip("\n") + "\n"
    )


_DECORATORS = {"abstractmethod": "has to be written", "classmethod": "class method", "property": "property"}


def _text(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    """Return a docstring as Markdown: blocks of code get fences."""
    lines, language = [], ""
    for line in (ast.get_docstring(node) or "").splitlines():
        if line.startswith(".. code-block:: "):
            language = line.removeprefix(".. code-block:: ")
            lines.append(f"```{language}")
        elif language and line and not line.startswith("   "):
            lines += ["```", "", line]
            language = ""
        elif language:
            lines.append(line.removeprefix("    "))
        else:
            lines.append(line.replace("``", "`"))
    text = "\n".join([*lines, *(["```"] if language else [])])
    return re.sub(r"\n+```\n", "\n```\n", re.sub(r"(```\w+)\n\n", r"\1\n", text)).strip() if "```" in text else text


def options() -> str:
    """Return the page of the options of all drivers that come with img."""
    parts = [
        f"# Options of the drivers\n\n{NOTE}\n\n",
        "Where they are said: [plugins](plugins.md#options). `img plugins info KIND:NAME` shows the same.\n",
    ]
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    for kind, group in GROUPS.items():
        if kind not in WITHOUT_OPTIONS:
            for name, module in sorted(groups.get(group, {}).items()):
                schema = getattr(import_module(module), DRIVER_HOOKS[kind])().schema
                parts.append(f"\n## {kind}:{name}\n\n{_options(schema or {})}")
    return "".join(parts)


def _options(schema: Mapping[str, Any]) -> str:  # Any: JSON Schema
    described = {**schema.get("properties", {}), **schema.get("patternProperties", {})}
    if not described:
        return "It takes none.\n"
    required = schema.get("required", ())
    rows = [
        _row(name, f"{_type(about)}{', required' if name in required else ''}. {about.get('description', '')}")
        for name, about in sorted(described.items())
    ]
    return "| Option | |\n|---|---|\n" + "".join(rows)


def _type(about: Mapping[str, Any]) -> str:  # Any: JSON Schema
    """Return the type of an option with its limits in a few words."""
    if "enum" in about:
        return " or ".join(f"`{value}`" for value in about["enum"])
    lowest, highest = about.get("minimum"), about.get("maximum")
    limits = f" from {lowest}" * (lowest is not None) + f" to {highest}" * (highest is not None)
    types = about.get("type", "anything")
    return (types if isinstance(types, str) else " or ".join(types)) + limits


def _row(name: str, text: str) -> str:
    cells = (cell.replace("\\|", "|").replace("|", "\\|") for cell in (f"`{name}`", text))
    return f"| {' | '.join(cells)} |\n"


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    write_or_check({PAGES / "contracts.md": contracts(), PAGES / "options.md": options()})
