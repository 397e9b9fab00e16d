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

<!-- Made by contrib/docs/unmodified.py from tests/compare/unmodified.py; a test keeps it up to date. -->

`nox -s containers -- --every 1` builds the {count} Dockerfiles of `tests/compare/dockerfiles` in [containers that nobody
changed](../how-to/unmodified-containers.md), as root of an ordinary one and of one with `hostUsers: false`, and on the machine itself,
where the executor `userns` and the snapshotter `overlayfs` work. All have the same clock (`SOURCE_DATE_EPOCH`,
`rewrite-timestamp=true`). {same} of {count} images are equal to the last byte of each layer, but for logs and lock files that no two
builds make alike. CI builds every twentieth. A Dockerfile that is not listed here and gives another image fails the comparison, and
so does a listed one that gives the same.

| what differs | Dockerfiles |
|---|---|
"""


def page() -> str:
    """Return the text of the page."""
    sys.path.insert(0, str(ROOT / "tests"))
    from compare.dockerfiles import CASES
    from compare.unmodified import EXCEPTIONS

    rows = [f"| {why} | {', '.join(f'`{name}`' for name in names)} |\n" for why, names in EXCEPTIONS.items()]
    listed = sum(map(len, EXCEPTIONS.values()))
    return HEAD.format(count=len(CASES), same=len(CASES) - listed) + "".join(rows)


if __name__ == "__main__":
    write_or_check({PAGE: page()})
