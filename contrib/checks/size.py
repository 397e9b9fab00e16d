"""Measure the core: lines of code, without docstrings, comments and blank lines, and all lines, by room. Fails if it outgrew its limit.

python contrib/checks/size.py
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

#: Lines of code that the core may have. It is to be read in an afternoon: what is concrete belongs into a plugin, what is general into
#: a library. Lower it when the core became smaller.
LIMIT = 10_562
#: What stands beside the core in its package: the libraries, the command line and the test kit.
BESIDE = {"linux", "forms", "files", "archives", "images", "net", "cli", "testing"}

_LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


class Size(NamedTuple):
    code: int
    lines: int


def measured(text: str) -> Size:
    """Return the size of a module."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = {line for token in tokens if token.type not in _LAYOUT for line in range(token.start[0], token.end[0] + 1)}
    return Size(len(code - _docstrings(text)), len(text.splitlines()))


def _docstrings(text: str) -> set[int]:
    found: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            match node.body[0]:
                case ast.Expr(value=ast.Constant(value=str())) as docstring:
                    found.update(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return found


def rooms(package: Path) -> dict[str, Size]:
    """Return the size of each room of the core; modules that are in none are the room ``.``."""
    sizes: dict[str, list[Size]] = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        room, *inside = path.relative_to(package).parts
        if room not in BESIDE:
            sizes[room if inside else "."].append(measured(path.read_text(encoding="utf-8")))
    return {room: _sum(found) for room, found in sorted(sizes.items())}


def _sum(sizes: list[Size]) -> Size:
    return Size(sum(size.code for size in sizes), sum(size.lines for size in sizes))


def main() -> int:
    sizes = rooms(ROOT / "img_core")
    total = _sum(list(sizes.values()))
    for name, size in [*sizes.items(), ("core", total)]:
        print(f"{name:10} {size.code:6} lines of code {size.lines:6} lines in all")
    if total.code > LIMIT:
        print(
            f"the core may have {LIMIT:,} lines of code: move what is concrete to a plugin, what is general to a library"
        )
    return int(total.code > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
