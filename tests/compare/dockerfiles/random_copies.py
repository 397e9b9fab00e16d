"""COPY at random, one over the other: sources and destinations in many spellings. The seeds are fixed, so each is the same every time."""

from __future__ import annotations

import random

from ._case import Case, Files

#: A name that starts with ``d`` is always a directory and one with ``f`` a file: nothing can stand in the way of anything.
_FILES: Files = {
    "f1": "1",
    "f2": "2",
    "f3.txt": "3",
    "d1/f1": "d1 f1",
    "d1/f4.txt": "d1 f4",
    "d1/d2/f1": "d1 d2 f1",
    "d1/d2/f5.txt": "d1 d2 f5",
    "d2/f2": "d2 f2",
    "d2/d2/f6": "d2 d2 f6",
    "d3/d4/d5/f7": "deep",
}
_SOURCES = (
    "f1", "./f2", "/f3.txt", "d1", "d1/", "d1/.", "./d2", "d3/d4", "d3//d4/d5/", "d1/*.txt", "d?", "*.txt",
    "d1/d2/f1", "d1/../d2/f2", "d3/*", "f[12]", "*/f1", "d1/d?", "../f1",
)  # fmt: skip
_DIRECTORIES = ("/x/", "/x/d1/", "/x/d1/../", "/y/d2/.//", "./", "../", "d1/", "/x/d3/d4/d5/", "/")


def copies(seed: int, *, count: int = 9) -> Case:
    """Return a Dockerfile with *count* COPY instructions."""
    chance = random.Random(seed)
    lines = ["FROM busybox", "RUN mkdir -p /x /y /w/d1/d2", "WORKDIR /w/d1"]
    for number in range(count):
        if chance.random() < 0.3:
            destination, sources = (
                f"{chance.choice(_DIRECTORIES)}f-new{number}",
                [chance.choice(("f1", "./f2", "d1/d2/f1"))],
            )
        else:
            destination, sources = chance.choice(_DIRECTORIES), chance.sample(_SOURCES, k=chance.choice((1, 1, 2, 3)))
        lines.append(" ".join(["COPY", *sources, destination]))
        if chance.random() < 0.3:
            lines.append("RUN rm -rf /x/d1 /w/d1/f1 && ls -A / /x /w > /seen")
            lines.append(f"WORKDIR {chance.choice(('/w/d1', '/w', '/x', 'd2'))}")
            lines.append("RUN true")
    # The times of directories that are there already are a known difference.
    lines.append("RUN find /x /y /w -type d -exec chmod 711 {} + -exec touch -d @7 {} +")
    return Case("\n".join(lines) + "\n", _FILES)


CASES = {f"seed-{seed}": copies(seed) for seed in range(6)}
