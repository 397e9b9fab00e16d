"""One random change of a generated build: of its context, its ignore file, its arguments or its Dockerfile."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import replace

from compare.dockerfiles._case import Directory, File, HardLink, Link
from compare.generated import IGNORE_LINES, Build, generate

__all__ = ["changed"]


def changed(build: Build, seed: int) -> tuple[str, Build]:
    """Return in words what is changed, and the changed copy of *build*."""
    chance = random.Random(f"change {seed}")
    result = copy.deepcopy(build)
    while True:
        change = chance.choice(_CHANGES)
        what = change(result, chance)
        if what:
            return f"{change.__name__.strip('_')}: {what}", result


# Each changes the build and returns what it did, or nothing if there is nothing of that kind.


def _content(build: Build, chance: random.Random) -> str:
    name = chance.choice(_files(build))
    file = build.files[name]
    assert isinstance(file, File)
    size = max(len(file.content), 1)  # mostly the same size: it is the content that counts
    build.files[name] = replace(file, content=str(chance.randrange(10)) * chance.choice((size, size, size + 1)))
    return name


def _mode(build: Build, chance: random.Random) -> str:
    name = chance.choice([name for name, entry in build.files.items() if isinstance(entry, File | Directory)])
    entry = build.files[name]
    assert isinstance(entry, File | Directory)
    build.files[name] = replace(entry, mode=entry.mode ^ 0o010)
    return name


def _new_file(build: Build, chance: random.Random) -> str:
    directories = ["", *(f"{name}/" for name, entry in build.files.items() if isinstance(entry, Directory))]
    name = f"{chance.choice(directories)}{chance.choice(('f1', 'f0', 'i1', 'f3'))}"
    if name in build.files:
        return ""
    build.files[name] = File("new")
    return name


def _removed_file(build: Build, chance: random.Random) -> str:
    targets = {entry.path for entry in build.files.values() if isinstance(entry, HardLink)}
    name = chance.choice([name for name in _files(build) if name not in targets])
    del build.files[name]
    return name


def _renamed_file(build: Build, chance: random.Random) -> str:
    name = chance.choice(_files(build))
    build.files = {
        f"{old}0" if old == name else old: HardLink(f"{name}0")
        if isinstance(entry, HardLink) and entry.path == name
        else entry
        for old, entry in build.files.items()
    }
    return name


def _link_target(build: Build, chance: random.Random) -> str:
    name = chance.choice([name for name, entry in build.files.items() if isinstance(entry, Link)])
    build.files[name] = Link(chance.choice(("d1", "d2", "../f1", "d1/d2", "f1")))
    return name


def _hard_link(build: Build, chance: random.Random) -> str:
    names = [name for name, entry in build.files.items() if isinstance(entry, HardLink)]
    if not names:
        return ""
    name = chance.choice(names)
    entry = build.files[name]
    assert isinstance(entry, HardLink)
    build.files[name] = build.files[entry.path]  # the same content, as a file of its own
    return name


def _archive(build: Build, chance: random.Random) -> str:
    build.files["a.tar"] = generate(chance.randrange(1000)).files["a.tar"]
    return "a.tar"


def _argument(build: Build, chance: random.Random) -> str:
    name = chance.choice(("A1", "A2", "G1", "G2", "BASE"))
    if name in build.args and chance.random() < 0.5:
        del build.args[name]
    else:
        build.args[name] = "busybox" if name == "BASE" else chance.choice(("d1", "d2", "d4"))
    return name


def _ignore(build: Build, chance: random.Random) -> str:
    if build.ignore and chance.random() < 0.5:
        return f"without {build.ignore.pop(chance.randrange(len(build.ignore)))}"
    build.ignore.insert(chance.randint(0, len(build.ignore)), line := chance.choice(IGNORE_LINES))
    return f"with {line}"


def _line_removed(build: Build, chance: random.Random) -> str:
    return build.lines.pop(chance.choice(_own_lines(build)))


def _line_twice(build: Build, chance: random.Random) -> str:
    place = chance.choice(_own_lines(build))
    build.lines.insert(place, build.lines[place])
    return build.lines[place]


def _lines_swapped(build: Build, chance: random.Random) -> str:
    lines = build.lines
    place = chance.choice(_own_lines(build))
    if place - 1 not in _own_lines(build):
        return ""
    lines[place - 1], lines[place] = lines[place], lines[place - 1]
    return lines[place]


def _line_replaced(build: Build, chance: random.Random) -> str:
    other = generate(chance.randrange(1000))
    place = chance.choice(_own_lines(build))
    line = other.lines[chance.choice(_own_lines(other))]
    if "from=" in line:  # of a stage that may not be there
        return ""
    build.lines[place] = line
    return line


_CHANGES: tuple[Callable[[Build, random.Random], str], ...] = (
    _content, _content, _mode, _new_file, _removed_file, _renamed_file, _link_target, _hard_link, _archive, _argument, _argument, _ignore,
    _line_removed, _line_twice, _lines_swapped, _line_replaced,
)  # fmt: skip


def _files(build: Build) -> list[str]:
    return [name for name, entry in build.files.items() if isinstance(entry, File)]


def _own_lines(build: Build) -> list[int]:
    """Return where the lines are that are not the frame of a stage."""
    return [place for place, line in enumerate(build.lines) if not line.startswith(("FROM ", "ARG BASE"))]
