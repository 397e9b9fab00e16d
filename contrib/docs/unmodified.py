"""Write docs/reference/unmodified-images.md from the table of the comparison: run it after changing that.

With ``--check`` it only tells whether the page is up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pages import write_or_check

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/reference/unmodified-images.md"

HEAD = """# Images from unmodified containers

<!-- Made by contrib/docs/unmodified.py from tests/compare/unmodified.py and the test of commands; a test keeps it up to date. -->

`nox -s containers -- --every 1` builds the {count} Dockerfiles of `tests/compare/dockerfiles` in [containers that nobody
changed](../how-to/unmodified-containers.md), as root of an ordinary one, of one with `hostUsers: false` and of one of CRI-O, and there
also without capabilities and as another user, and on the machine itself, where the executor `userns` and the snapshotter `overlayfs`
work; in the last of these containers names that Dockerfiles make in `/` are below `/media`, and the base has a merged `/usr`. All have
the same clock (`SOURCE_DATE_EPOCH`, `rewrite-timestamp=true`). {same} of {count} images are equal to the last byte of
each layer, but for logs and lock files that no two
builds make alike. CI builds every twentieth. A Dockerfile that is not listed here and gives another image fails the comparison, and
so does a listed one that gives the same.

| what differs in all of them | Dockerfiles |
|---|---|
"""
ONE = """
## Only {where}

{same} of {count} images are equal.

| what differs | Dockerfiles |
|---|---|
"""
COMMANDS = """
## Commands

The {count} commands of `tests/integration/test_unmodified_commands.py`, which Dockerfiles for Debian run for packages, users, compilers,
interpreters and the like, work in each of these containers but for:

| the container | what does not work | why |
|---|---|---|
"""
WHERE = {
    "root": "as root of an ordinary container",
    "host-users-false": "as root with `hostUsers: false`",
    "cri-o-root": "as root of CRI-O",
    "host-users-false-drop-all": "as root without capabilities, with `hostUsers: false`",
    "restricted-open-root": "as another user, who may write in the root directory",
    "restricted-prepared": "as another user, with directories of his in the root directory",
}


def page() -> str:
    """Return the text of the page."""
    sys.path.insert(0, str(ROOT / "tests"))
    from compare.dockerfiles import CASES
    from compare.unmodified import EXCEPTIONS, EXCEPTIONS_OF
    from integration import test_unmodified_commands as commands

    count, listed = len(CASES), sum(map(len, EXCEPTIONS.values()))
    text = HEAD.format(count=count, same=count - listed) + _rows(EXCEPTIONS)
    for kind, table in EXCEPTIONS_OF.items():
        fewer = sum(map(len, table.values()))
        text += ONE.format(where=WHERE[kind], count=count, same=count - listed - fewer) + _rows(table)
    text += COMMANDS.format(count=len(commands.COMMANDS))
    for kind, reasons in commands.KINDS.items():
        text += "".join(f"| {WHERE[kind]} | `{name}` | {why} |\n" for name, why in reasons.items())
    return text


def _rows(table: dict[str, tuple[str, ...]]) -> str:
    return "".join(f"| {why} | {', '.join(f'`{name}`' for name in names)} |\n" for why, names in table.items())


if __name__ == "__main__":
    write_or_check({PAGE: page()})
