"""Write docs/reference/libraries/ from the docstrings of the libraries: run it after changing one.

With ``--check`` it only tells whether the pages are up to date. The sources are read, not imported.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from pages import write_or_check

__all__ = ["LIBRARIES", "comment", "pages", "public_modules"]

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs/reference/libraries"
CORE = ("linux", "forms", "files", "archives", "images", "net")
LIBRARIES = [
    *(ROOT / "img_core" / name for name in CORE),
    *sorted(path.parent for path in ROOT.glob("plugins/img_lib_*/__init__.py")),
]

NOTE = "<!-- Made by contrib/docs/libraries.py from the docstrings; a test keeps it up to date. -->"
INDEX = f"""# Libraries

{NOTE}

What plugins may import beside `img_core.spec`: the libraries of the core, and those that plugins share. A module or name with `_` in
front is nobody else's. The version of a library has two numbers: the first changes when something that is on its page goes or means
something else.

| Library | Version | |
|---|---|---|
"""


def public_modules(library: Path) -> list[str]:
    """Return the names of the modules and packages of *library* that are not private."""
    found = [path.stem for path in library.glob("*.py")] + [path.parent.name for path in library.glob("*/__init__.py")]
    return sorted(name for name in found if not name.startswith("_"))


def pages() -> dict[Path, str]:
    """Return the pages by their paths."""
    rows, made = [], {}
    for library in LIBRARIES:
        tree = _parse(library / "__init__.py")
        name = ".".join(library.relative_to(ROOT).parts).removeprefix("plugins.")
        rows.append(f"| [`{name}`]({library.name}.md) | {_assigned(tree, '__version__')} | {_first_line(tree)} |\n")
        made[PAGES / f"{library.name}.md"] = _page(name, library, tree)
    return {PAGES / "README.md": INDEX + "".join(rows), **made}


def _page(name: str, library: Path, tree: ast.Module) -> str:
    parts = [f"# {name}\n\n{NOTE}\n\n{_first_line(tree)}\n\nVersion {_assigned(tree, '__version__')}.\n"]
    modules = public_modules(library)
    own = [item for item in _assigned(tree, "__all__") or () if item not in modules]
    if own:
        parts.append("\n" + _table(own, library / "__init__.py"))
    for dotted, path in _below(library):
        module = _parse(path)
        parts.append(f"\n## {dotted}\n\n{_first_line(module)}\n")
        names = _assigned(module, "__all__") or []
        if names:
            parts.append("\n" + _table(names, path))
    return "".join(parts)


def _below(library: Path, prefix: str = "") -> Iterator[tuple[str, Path]]:
    for name in public_modules(library):
        package = library / name / "__init__.py"
        yield prefix + name, package if package.is_file() else library / f"{name}.py"
        if package.is_file():
            yield from _below(library / name, f"{prefix}{name}.")


def _table(names: list[str], path: Path) -> str:
    rows = [f"| `{name}` | {_described(name, path)} |\n" for name in sorted(names, key=str.lower)]
    return "| Name | |\n|---|---|\n" + "".join(rows)


def _described(name: str, path: Path) -> str:
    """Return the first line on *name* of the module at *path*, which may have it from another one."""
    for node in ast.walk(_parse(path)):
        match node:
            case ast.ClassDef() | ast.FunctionDef() if node.name == name:
                return _first_line(node)
            case ast.Assign(targets=[ast.Name(id=found)]) | ast.AnnAssign(target=ast.Name(id=found)) if found == name:
                return comment(path, node.lineno)
            case ast.ImportFrom(module=str(module)) if any((item.asname or item.name) == name for item in node.names):
                original = next(item.name for item in node.names if (item.asname or item.name) == name)
                return _described_in(module, original)
    return ""


def _described_in(module: str, name: str) -> str:
    for root in (ROOT, ROOT / "plugins"):
        place = root.joinpath(*module.split("."))
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return _described(name, path)
        if (place / f"{name}.py").is_file():
            return _first_line(_parse(place / f"{name}.py"))
    return ""


def comment(path: Path, number: int) -> str:
    """Return the comment ``#:`` above or behind the line *number*, from 1."""
    lines = path.read_text(encoding="utf-8").splitlines()
    behind = lines[number - 1].partition("#: ")[2]
    above = []
    for line in map(str.strip, reversed(lines[: number - 1])):
        if not line.startswith("#: "):
            break
        above.insert(0, line.removeprefix("#: "))
    return _in_table(behind or " ".join(above))


def _first_line(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    return _in_table((ast.get_docstring(node) or "").partition("\n")[0])


def _in_table(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


def _assigned(tree: ast.Module, name: str) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            value: list[str] = ast.literal_eval(node.value)
            return value
    return []


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    write_or_check(pages(), all_in=PAGES)
