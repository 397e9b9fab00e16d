"""Pages that are made from something else: written, or compared with what is there when ``--check`` is asked for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["write_or_check"]


def write_or_check(made: Mapping[Path, str], *, all_in: Path | None = None) -> None:
    """Write the pages in *made*, or exit with a line that names those out of date. In *all_in* no other page may be."""
    others = set(all_in.glob("*.md")) - made.keys() if all_in is not None else set()
    if "--check" in sys.argv[1:]:
        stale = {path for path, text in made.items() if not path.is_file() or path.read_text(encoding="utf-8") != text}
        names = ", ".join(str(path) for path in sorted(stale | others))
        sys.exit(f"out of date: {names}; run {Path(sys.argv[0]).name}" if names else None)
    for path in others:
        path.unlink()
    for path, text in made.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
