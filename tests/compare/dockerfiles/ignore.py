"""``.dockerignore``."""

from __future__ import annotations

import random

from ._case import Case, Files

TREE: Files = {
    "a.txt": "a", "README.md": "r", "A.TXT": "A", "d/a.txt": "a", "d/e/f.go": "f", "d/e/c.go": "c", "d/e/README.md": "r", "d/g": "g",
    "node_modules/x": "x", "sub/node_modules/y": "y", "sub/keep.tmp": "k", "x1": "1", "x2": "2", "xa": "a", "with blank": "b",
}  # fmt: skip
COPY_ALL = "FROM busybox\nCOPY . /c/\n"


def ignoring(*lines: str, dockerfile: str = COPY_ALL) -> Case:
    """Return a case whose context has these lines in its ``.dockerignore``."""
    return Case(dockerfile, {**TREE, ".dockerignore": "\n".join(lines) + "\n"})


CASES = {
    "root-wildcard": ignoring("*.txt"),
    "any-depth": ignoring("**/*.txt", "**/node_modules"),
    "name-is-of-the-root": ignoring("node_modules", "README.md"),
    "spellings-of-a-directory": ignoring("/d/", "./sub/", "x1/../x2"),
    "all-but-a-directory": ignoring("*", "!d/e"),
    "all-but-a-file": ignoring("*", "!d/e/c.go"),
    "back-in-an-ignored-directory": ignoring("d", "!d/e/f.go"),
    "all-but-any-depth": ignoring("*", "!**/*.md"),
    "last-match-wins": ignoring("!README.md", "*.md", "d/e", "!d/e", "d/e/c.go"),
    "contents-of-a-directory": ignoring("d/*", "sub/**"),
    "comments-and-blanks": ignoring("# *.txt", "  x1  ", "", " # not a comment", "with blank", "! xa", "\t"),
    "classes-and-single-characters": ignoring("x[12]", "?.txt", "d/[a-f]", "REA\\DME.md"),
    "letter-case": ignoring("A.TXT"),
    "middle-of-a-path": ignoring("d/**/c.go", "**/e/README.md", "s*/k*"),
    "patterns-without-effect": ignoring(".", "/", "nothing/at/all", "d/e/f.go/below"),
    "itself-and-the-dockerfile": ignoring(".dockerignore", "Dockerfile", "x?"),
    "carriage-returns": ignoring("*.txt\r", "d\r", "!d/g\r"),
    "of-wildcards-and-directories": ignoring(
        "**/*.txt", "!d/a.txt", dockerfile="FROM busybox\nCOPY *md d x* /c/\nADD d/ /d/\n"
    ),
    "beside-the-dockerfile": Case(
        COPY_ALL,
        {**TREE, ".dockerignore": "d\n", "Dockerfile.dockerignore": "sub\n"},
    ),
    "slashes-and-stars": ignoring("**/", "!d/g", "*/*/*"),
    "one-level-down": ignoring("*/*", "!*/e"),
    "everything-and-back": ignoring("**", "!a.txt", "!d"),
    "a-directory-without-a-file": ignoring("d/", "!d/e/", "d/e/c.go"),
    "back-what-was-not-excluded": ignoring("d/e", "!d"),
    "excluded-already": ignoring("d*", "!d/g", "d"),
    "dots-in-patterns": ignoring("./a.txt", "d/./g", "sub//keep.tmp", "d/e/../e/f.go"),
}


_PATTERNS = (
    "*", "d", "d/*", "d/e/*", "*.txt", "**/*.md", "**/c.go", "d/**", "*/e", "*/*/f.go", "x?", "x[1a]", "[!a-m]*", "?.txt", "sub/",
    "/sub/*.tmp", "**/node_modules/**", "with*", "d/?", "**/?", "d/**/README.md",
)  # fmt: skip
_EXCEPTIONS = (
    "!d",
    "!d/e",
    "!d/e/c.go",
    "!d/*",
    "!d/g",
    "!a.txt",
    "!x1",
    "!sub",
    "!sub/node_modules/y",
    "!with blank",
    "!README.md",
    "!d/e/*.go",
)


def _at_random(seed: int) -> Case:
    """Return a case with some of the patterns above in some order."""
    chance = random.Random(seed)
    lines = [chance.choice(("*", "d", "*/*", "d/**", "sub", "**/e"))]
    lines += [chance.choice(_EXCEPTIONS if chance.random() < 0.6 else _PATTERNS) for _ in range(5)]
    # The times of directories above what `!` brings back are a known difference.
    settle = "RUN find /c -type d -exec chmod 711 {} + -exec touch -d @7 {} +\n"
    return ignoring(*lines, dockerfile=f"{COPY_ALL}{settle}")


CASES |= {f"seed-{seed}": _at_random(seed) for seed in range(8)}
