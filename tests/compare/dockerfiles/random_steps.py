"""Steps at random: what many changes, one over the other, leave in the layers. The seeds are fixed, so each is the same every time."""

from __future__ import annotations

import random

from ._case import Case, Files, HardLink, Link

_FILES: Files = {
    "tree/a": "tree a",
    "tree/b/a": "tree b a",
    "tree/b/b": HardLink("tree/a"),
    "tree/c": Link("b"),
    "tree/b/c": Link("../a"),
}
#: Commands; ``{p}`` and ``{q}`` become paths. Where one does not apply (a directory in the way, nothing there), nothing happens.
#: No named pipes: to open one is to wait.
_COMMANDS = (
    "mkdir -p {p}",
    "echo {n} > {p}",
    "echo {n} >> {p}",
    "rm -rf {p}",
    "rm -rf {p} && mkdir -p {p} && echo {n} > {p}/b",
    "rm -rf {p} && echo {n} > {p}",
    "mv {p} {q}",
    "ln {p} {q}",
    "ln -sfn {q} {p}",
    "cp -a {p} {q}",
    "chmod {m} {p}",
    "chown -h {n}:{n} {p}",
    "touch -d @{n} {p}",
    "rmdir {p}",
)
#: The times of directories that nothing else happened to are a known difference: here everything happens to all of them.
_SETTLE = "RUN find {tops} -type d -exec chmod a+w {{}} + -exec touch -d @7 {{}} +"
_NAMES = ("a", "b", "c")


def steps(seed: int, *, runs: int = 7, commands: int = 7) -> Case:
    """Return a Dockerfile of *runs* steps of *commands* changes each, and as many copies into new directories in between."""
    chance = random.Random(seed)
    tops = ["/t"]
    lines = ["FROM busybox", "RUN mkdir -p /t/a/b /t/b && echo 1 > /t/a/a && ln /t/a/a /t/b/b && ln -s a /t/c"]
    for number in range(runs):
        if chance.random() < 0.4:
            tops.append(f"/copy{number}")
            lines.append(f"COPY --chown={number}:{number} tree {tops[-1]}")
        changes = "; ".join(_change(chance, tops) for _ in range(commands))
        lines.append(f"RUN exec 2> /dev/null; {changes}; true")
    lines.append(_SETTLE.format(tops=" ".join(tops)))
    return Case("\n".join(lines) + "\n", _FILES)


def _change(chance: random.Random, tops: list[str]) -> str:
    def path() -> str:
        return "/".join([chance.choice(tops), *chance.choices(_NAMES, k=chance.choice((1, 1, 2, 2, 3)))])

    mode = chance.choice(("700", "600", "511", "1755", "4711", "2750"))
    return chance.choice(_COMMANDS).format(p=path(), q=path(), n=chance.randrange(1, 60000), m=mode)


CASES = {f"seed-{seed}": steps(seed) for seed in range(6)}
