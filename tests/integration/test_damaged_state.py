"""Files of the state directory that are not what img wrote: at most one command fails, and what is healthy is kept."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.bases import BUSYBOX_CONFIG, busybox_root, write_oci_archive
from harness.fixtures import load
from harness.fork_commands import ForkCommands
from harness.img import environment, remove_as_mapped_root, write_context
from img_core.images import oci

pytestmark = [pytest.mark.rootless, pytest.mark.slow]

BUSYBOX = "docker.io/library/busybox:latest"
BUILT = "docker.io/library/built:latest"
TAGGED = "docker.io/library/tagged:latest"

DAMAGES: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(os.urandom(max(path.stat().st_size, 100))),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "gone": os.unlink,
    "middle": lambda path: _overwrite_middle(path),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


def _overwrite_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    start, end = len(data) // 3, len(data) * 2 // 3
    data[start:end] = os.urandom(end - start)
    path.write_bytes(data)


def note_of(name: str) -> str:
    return "names/" + oci.digest(name.encode()).removeprefix("sha256:") + ".json"


#: Files by a short name, as patterns; each of them is there in a state that was used.
FILES = {
    "database": "img.db",
    "log": "img.db-wal",
    "shared memory": "img.db-shm",
    "leases": "img.db-leases-*[0-9a-f]",
    "journal of leases": "img.db-leases-*-journal",
    "note of base": note_of(BUSYBOX),
    "note of built": note_of(BUILT),
    "locks": "locks",
    "reserve": "reserve",
}
SINGLES = [
    (name, how)
    for name in FILES
    for how in DAMAGES
    if name == "database" or how == "garbage" or (how == "gone" and name.startswith(("note of built", "leases", "log")))
]
PAIRS = [pair for pair in itertools.combinations(FILES, 2) if {"database", "leases"} & set(pair)]


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkCommands]:
    with ForkCommands(environment(tmp_path_factory.mktemp("forked-home"), IMG_SYNC="0")) as server:
        yield server


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_context(
        tmp_path_factory.mktemp("context"), "FROM busybox\nCOPY a /a\nRUN cat /a > /b\n", {"a": "a" * 5000}
    )


@pytest.fixture(scope="module")
def used(forked: ForkCommands, context: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a state that was used and whose last command did not end well: a part of the database is in its log only."""
    directory = tmp_path_factory.mktemp("used")
    archive = write_oci_archive(
        directory / "base.tar", [busybox_root("sh", "cat")], name=BUSYBOX, config=BUSYBOX_CONFIG
    )
    load(directory / "made", archive, directory)
    forked.run("build", directory / "made", context=str(context), tags=["built"], backend="native").ok()
    holder = sqlite3.connect(directory / "made" / "img.db")
    try:
        holder.execute("SELECT 1 FROM image").fetchall()
        forked.run("tag", directory / "made", name=BUSYBOX, new=TAGGED).ok()
        shutil.copytree(directory / "made", directory / "state", symlinks=True)
    finally:
        holder.close()
    yield directory / "state"
    for name in ("made", "state"):
        remove_as_mapped_root(directory / name)


@pytest.fixture
def state(used: Path, tmp_path: Path) -> Iterator[Path]:
    copy = tmp_path / "state"
    shutil.copytree(used, copy, symlinks=True)
    yield copy
    remove_as_mapped_root(copy)


def damage(state: Path, names: tuple[str, ...], how: str) -> None:
    for name in names:
        found = list(state.glob(FILES[name]))
        assert found, f"{name} is not there"
        for path in found:
            DAMAGES[how](path)


def use(forked: ForkCommands, state: Path, context: Path) -> list[str]:
    """Run what people run; return the errors of what failed."""
    again = {"context": str(context), "tags": ["built"], "backend": "native"}
    outcomes = [
        forked.run("list", state),
        forked.run("build", state, **again),
        forked.run("tag", state, name=BUILT, new="docker.io/library/more:latest"),
        forked.run("save", state, name=BUSYBOX, dest=str(state.parent / "saved.tar")),
        forked.run("rm", state, name="docker.io/library/more:latest"),
        forked.run("prune", state),
        forked.run("list", state),
    ]
    bugs = [outcome for outcome in outcomes if outcome.code == -1 or outcome.status not in (0, 1)]
    assert bugs == []
    return [outcome.error for outcome in outcomes if outcome.status]


def insist(forked: ForkCommands, state: Path, context: Path, names: set[str]) -> None:
    errors = use(forked, state, context)
    assert len(errors) <= 1, errors
    listed = set(forked.run("list", state).ok().value["names"])
    assert listed >= names
    forked.run("fsck", state, repair=True).ok()
    assert forked.run("fsck", state).ok().value == []
    assert set(forked.run("list", state).ok().value["names"]) >= listed


@pytest.mark.parametrize(("name", "how"), SINGLES)
def test_one_damaged_file(forked: ForkCommands, state: Path, context: Path, name: str, how: str) -> None:
    damage(state, (name,), how)
    insist(forked, state, context, {BUSYBOX, BUILT})


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_two_damaged_files(forked: ForkCommands, state: Path, context: Path, pair: tuple[str, str]) -> None:
    damage(state, pair, "garbage")
    # The name of a base whose note and row are both garbage is nowhere any more; a build names its result again.
    if set(pair) == {"database", "note of base"}:
        assert forked.run("list", state).ok().value["names"]
    else:
        insist(forked, state, context, {BUSYBOX, BUILT})
