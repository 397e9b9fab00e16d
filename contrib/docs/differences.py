"""Write docs/reference/differences-from-buildah.md from the table of the comparison: run it after changing that.

With ``--check`` it only tells whether the page is up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pages import write_or_check

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/reference/differences-from-buildah.md"

HEAD = """# Differences from buildah

<!-- Made by contrib/docs/differences.py from tests/compare/differences.py; a test keeps it up to date. -->

`nox -s compare` builds the {count} Dockerfiles of `tests/compare/dockerfiles` with `img` and with Debian 12's buildah 1.28 and compares the
images: all paths with type, mode, owner, time, link target, hard links, extended attributes and content; all fields of the
configuration; the instructions in the history and which of them made a layer. Both make the same but for the differences below. One
that is not listed fails the comparison, and so does a listed one that no longer occurs. {refused} more Dockerfiles are wrong: both must
refuse them. Dockerfiles made at random, which avoid these differences, are compared as well (`nox -s compare -- --random N`), and each is
built again after a change and compared with a build without cache.

What this buildah does not know (here-documents, `--link`, `--exclude`, `${{name#pattern}}`, several variables in one ARG, stage names in
another letter case) it gets in other words, and the results are compared all the same.

## In every image

These are not compared.

"""
TABLE = """
## In some

BuildKit agrees with the builder that the last column names; below the reason are the Dockerfiles that show the difference.

"""

IN_EVERY_IMAGE = (
    (
        "history",
        "BuildKit's words; an entry for each LABEL and ARG, none for ONBUILD",
        "docker's words; an entry for each label, argument and trigger",
    ),
    ("`WORKDIR` in the history", "made a layer", "made none; the directory comes with the next layer"),
    (
        "configuration",
        "the fields that BuildKit writes",
        "also fields of a container (`Hostname`, `Image`, `Tty` …) and the label `io.buildah.version`",
    ),
    (
        "`/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`, `/proc`, `/sys`, `/dev`, `/run`",
        "as the base has them",
        "may be touched, or made",
    ),
    ("times of what is made", "the time of its build", "the time of its build"),
)


def page() -> str:
    """Return the whole page."""
    sys.path.insert(0, str(ROOT / "tests"))
    from compare.differences import DIFFERENCES
    from compare.dockerfiles import CASES, REFUSED

    in_some = [("What", "img", "buildah", "Reason", "BuildKit")]
    for difference in DIFFERENCES:
        unknown = difference.cases.keys() - CASES.keys() - {f"refused/{name}" for name in REFUSED}
        assert not unknown, f"the table of differences names what does not exist: {unknown}"
        reason = f"{difference.reason}<br>" + ", ".join(f"`{case}`" for case in difference.cases)
        in_some.append((difference.what, difference.img, difference.buildah, reason, difference.buildkit))
    head = HEAD.format(count=len(CASES), refused=len(REFUSED))
    return head + table(("What", "img", "buildah"), *IN_EVERY_IMAGE) + TABLE + table(*in_some)


def table(*rows: tuple[str, ...]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|\n")
    return "".join(lines)


if __name__ == "__main__":
    write_or_check({PAGE: page()})
