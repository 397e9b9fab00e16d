"""What stands in for modules that click, and `inspect` below it, import and that hardly any command uses."""

from __future__ import annotations

import sys

from img_core.linux.later import Later

__all__ = ["stand_ins"]

#: `dis.COMPILER_FLAG_NAMES`, from which `inspect` makes its constants when it is imported.
_FLAGS = {
    1: "OPTIMIZED", 2: "NEWLOCALS", 4: "VARARGS", 8: "VARKEYWORDS", 16: "NESTED", 32: "GENERATOR", 64: "NOFREE",
    128: "COROUTINE", 256: "ITERABLE_COROUTINE", 512: "ASYNC_GENERATOR",
}  # fmt: skip
_KNOWN = (3, 14)  #: before this version these are the flags, and `inspect` is as it is described here


def stand_ins() -> list[Later]:
    """Return them, for one import."""
    found = [Later("uuid", placeholders=True), Later("gettext", {"gettext": _same, "ngettext": _one_of})]
    if sys.version_info < _KNOWN:
        sources = [Later("linecache"), Later("tokenize"), Later("ast", {"NodeVisitor": _NodeVisitor})]
        found += [*sources, Later("dis", {"COMPILER_FLAG_NAMES": _FLAGS})]
    return found


def _same(message: str) -> str:
    return message


def _one_of(one: str, many: str, number: int) -> str:
    return one if number == 1 else many


class _NodeVisitor:
    """`ast.NodeVisitor` for a class that is built on it: does what that does once it is asked to."""

    def visit(self, node: object) -> object:
        """Visit *node* by its class."""
        import ast

        return ast.NodeVisitor.visit(self, node)  # type: ignore[arg-type]  # it calls methods of ours only

    def generic_visit(self, node: object) -> object:
        """Visit what *node* has."""
        import ast

        return ast.NodeVisitor.generic_visit(self, node)  # type: ignore[arg-type]  # as above
