"""Make the files that `img_core.cli._bundle` reads: what a command imported."""

from __future__ import annotations

import marshal
import os
import sys
import zlib
from functools import cache
from importlib.machinery import PathFinder, SourceFileLoader
from typing import TYPE_CHECKING

from img_core.cli._bundle import HEAD, SIZES, identity, status
from img_core.cli._compiled import COMPILERS
from img_core.files.fingerprint import SETTLED_NS
from img_core.files.places import forget_old_notes, is_ours, leave_note

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.machinery import ModuleSpec

    from img_core.cli._bundle import Bundle, Row, Status

__all__ = ["write"]

_FILES = 4  #: that are kept, of several installations
_LARGEST = 16 << 20  #: bytes of code; beyond that only what the last command imported


def write(bundle: Bundle, names: Iterable[str]) -> None:
    """Write the modules *names*, and what *bundle* has, to its file, if the cache directory can be written."""
    place = os.path.dirname(bundle.path)
    try:
        os.makedirs(place, mode=0o700, exist_ok=True)
        if not is_ours(os.stat(place)) or not os.access(place, os.W_OK):
            return
    except OSError:
        return
    content = _content(bundle, names)
    if content and leave_note(bundle.path, content):
        forget_old_notes(place, _FILES)


def _content(bundle: Bundle, names: Iterable[str]) -> bytes:
    """Return the file; nothing if a directory with modules has changed just now, so that its times would not tell its next change."""
    settled = bundle.began - SETTLED_NS
    old = {name: (row, bundle.code(row)) for name, row in bundle.rows.items() if status(row[0]) == row[4]}
    kept = {name: (row, code) for name, (row, code) in old.items() if code and len(code) == row[-1]}
    if sum(len(code) for _row, code in kept.values()) > _LARGEST:
        kept = {}
    kept |= {name: made for name in names if (spec := _usual(name)) is not None and (made := _made(spec, settled))}
    parents = sorted({row[2] for row, _code in kept.values()} - {""})
    directories = {path: status(path) for path in [*sys.path, *parents, *COMPILERS]}
    if any(_is_new(found, settled) for found in directories.values()):
        return b""
    rows: dict[str, Row] = {}
    offset = len(HEAD) + 3 * SIZES
    for name, (row, code) in kept.items():
        rows[name] = (*row[:-2], offset, len(code))
        offset += len(code)
    index = marshal.dumps((identity(), directories, rows, bundle.compiled.known()))
    numbers = (offset - len(HEAD) - 3 * SIZES, len(index), zlib.crc32(index))
    head = HEAD + b"".join(number.to_bytes(SIZES, "little") for number in numbers)
    return b"".join([head, *(code for _row, code in kept.values()), index])


def _made(spec: ModuleSpec, settled: int) -> tuple[Row, bytes] | None:
    """Return what there is to know of a module; None if it was not compiled, or is too new for its times to tell the next change."""
    source, compiled = spec.origin or "", spec.cached or ""
    before = status(source)
    if before is None or _is_new(before, settled) or not os.path.exists(compiled):
        return None
    try:
        code = marshal.dumps(SourceFileLoader(spec.name, source).get_code(spec.name))
    except (ImportError, OSError, SyntaxError, ValueError):
        return None
    if status(source) != before:
        return None
    parent = _directory(spec) if "." in spec.name else ""
    return (source, compiled, parent, spec.submodule_search_locations is not None, before, 0, 0), code


def _is_new(found: Status, settled: int) -> bool:
    return found is not None and max(found[4:]) >= settled


@cache
def _usual(name: str) -> ModuleSpec | None:
    """Return how Python finds the module *name* now, if it was found so, as all above it: in the only directory of its package."""
    module, package = sys.modules.get(name), name.rpartition(".")[0]
    places = list(getattr(sys.modules.get(package), "__path__", ())) if package else None
    if package and _usual(package) is None:
        return None
    spec = PathFinder.find_spec(name, places)
    if spec is None or spec.origin != getattr(getattr(module, "__spec__", None), "origin", None):
        return None
    if type(spec.loader) is not SourceFileLoader or places not in (None, [_directory(spec)]):
        return None
    return spec if spec.submodule_search_locations in (None, [os.path.dirname(spec.origin or "")]) else None


def _directory(spec: ModuleSpec) -> str:
    """Return the directory in which a module is found."""
    found = os.path.dirname(spec.origin or "")
    return os.path.dirname(found) if spec.submodule_search_locations is not None else found
