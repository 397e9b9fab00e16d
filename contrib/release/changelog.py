"""Move the fragments of ``changelog.d/`` into ``CHANGELOG.md``, as a section of a version: ``python contrib/release/changelog.py 0.2.0``.

With ``--check`` it only tells whether each fragment is one.
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from pathlib import Path

__all__ = ["check", "entry", "main", "release"]

ROOT = Path(__file__).resolve().parents[2]
_VERSION = re.compile(r"\d+(?:\.\d+)+(?:(?:a|b|rc)\d+)?")
_HEAD = "# Changelog\n\nFragments of the next release are in `changelog.d/`.\n"


def entry(text: str) -> str:
    """Return a fragment as items of a list; what is a list already stays one."""
    text = text.strip()
    return text if text.startswith("- ") else "- " + text.replace("\n", "\n  ")


def check(path: Path) -> str | None:
    """Say what is wrong with a fragment, None if nothing is: it is a sentence or some, in words of users."""
    text = path.read_text(encoding="utf-8").strip()
    if not text:
        return f"{path.name} is empty"
    if text.startswith("#"):
        return f"{path.name} starts with a heading: a fragment is a sentence"
    return None if text[-1] in ".`:)" else f"{path.name} does not end with a full stop"


def fragments(root: Path) -> list[Path]:
    """Return the fragments of the repository at *root*, in the order of their names."""
    return sorted((root / "changelog.d").glob("*.md"))


def release(root: Path, version: str, date: str) -> int:
    """Move the fragments into the section of *version*, newest first, and return how many there were. Raises ValueError."""
    if not _VERSION.fullmatch(version):
        raise ValueError(f"`{version}` is no version such as 0.2.0")
    page, found = root / "CHANGELOG.md", fragments(root)
    text = page.read_text(encoding="utf-8")
    if not found:
        raise ValueError("there are no fragments in changelog.d")
    if not text.startswith(_HEAD):
        raise ValueError("CHANGELOG.md does not start as it should")
    if re.search(rf"^## {re.escape(version)}\b", text, re.MULTILINE):
        raise ValueError(f"CHANGELOG.md has a section {version} already")
    if wrong := [problem for path in found if (problem := check(path))]:
        raise ValueError("; ".join(wrong))
    section = f"\n## {version} ({date})\n\n" + "".join(entry(path.read_text(encoding="utf-8")) + "\n" for path in found)
    page.write_text(_HEAD + section + text.removeprefix(_HEAD), encoding="utf-8")
    for path in found:
        path.unlink()
    return len(found)


def main(arguments: list[str] | None = None, root: Path = ROOT) -> str | None:
    """Do what the command line says; return what is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("version", nargs="?", help="e.g. 0.2.0")
    parser.add_argument(
        "--date", default=datetime.datetime.now(datetime.UTC).date().isoformat(), help="YYYY-MM-DD, default: today"
    )
    parser.add_argument("--check", action="store_true", help="only look at the fragments")
    given = parser.parse_args(arguments)
    if given.check:
        return "\n".join(problem for path in fragments(root) if (problem := check(path))) or None
    if given.version is None:
        parser.error("a version is missing")
    try:
        count = release(root, given.version, given.date)
    except ValueError as err:
        return str(err)
    print(f"{count} fragments moved into CHANGELOG.md")
    return None


if __name__ == "__main__":
    sys.exit(main())
