"""Fingerprints differ whenever anything differs: compared with reading everything, over thousands of random edits."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from img_core.files.fingerprint import SETTLED_NS, fingerprint

#: Longer than a tick of the clock of the file systems that tests run on, in seconds.
_TICK = 0.05


def naive(tree: Path) -> str:
    """Return a digest of all that a build could see of *tree*, by reading it."""
    sum_ = hashlib.sha256()
    for directory, folders, files in os.walk(tree):
        folders.sort()
        for name in sorted(files) + folders:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            sum_.update(repr((os.path.relpath(path, tree), status.st_mode)).encode())
            if os.path.islink(path):
                sum_.update(os.readlink(path).encode())
            elif os.path.isfile(path):
                sum_.update(Path(path).read_bytes())
    return sum_.hexdigest()


def some_file(tree: Path, chance: random.Random) -> Path:
    return chance.choice(sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()))


def with_kept_times(path: Path, change: Callable[[], object]) -> None:
    before = path.stat()
    change()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def other_bytes(tree: Path, chance: random.Random) -> None:
    """As hidden as it gets: as many bytes as before, and the time of modification set back."""
    path = some_file(tree, chance)
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 + chance.randrange(255)
    with_kept_times(path, lambda: path.write_bytes(data))


def longer(tree: Path, chance: random.Random) -> None:
    path = some_file(tree, chance)
    with_kept_times(path, lambda: path.write_bytes(path.read_bytes() + b"x"))


def replaced(tree: Path, chance: random.Random) -> None:
    path = some_file(tree, chance)
    before, new = path.stat(), path.with_name("new")
    new.write_bytes(chance.randbytes(before.st_size))
    new.chmod(before.st_mode & 0o777)
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.rename(path)


def exchanged(tree: Path, chance: random.Random) -> None:
    first, second = some_file(tree, chance), some_file(tree, chance)
    between = tree / "between"
    first.rename(between)
    if second != first:
        second.rename(first)
        between.rename(second)
    else:
        between.rename(first)


def renamed(tree: Path, chance: random.Random) -> None:
    path = some_file(tree, chance)
    path.rename(path.with_name(f"{path.name}{chance.randrange(10)}"))


def mode(tree: Path, chance: random.Random) -> None:
    path = some_file(tree, chance)
    path.chmod(path.stat().st_mode & 0o777 ^ 0o010)


def added(tree: Path, chance: random.Random) -> None:
    (some_file(tree, chance).parent / f"added{chance.randrange(1000)}").write_bytes(b"a")


def removed(tree: Path, chance: random.Random) -> None:
    (tree / "spare").write_bytes(b"a file stays")
    some_file(tree, chance).unlink(missing_ok=True)
    (tree / "stays").write_bytes(b"one")


def directory(tree: Path, chance: random.Random) -> None:
    place = some_file(tree, chance).parent / f"directory{chance.randrange(1000)}"
    place.mkdir(exist_ok=True)


def link(tree: Path, chance: random.Random) -> None:
    path = tree / "link"
    path.unlink(missing_ok=True)
    path.symlink_to(f"target{chance.randrange(10)}")


def hard_link(tree: Path, chance: random.Random) -> None:
    path = some_file(tree, chance)
    target = path.with_name(f"hard{chance.randrange(1000)}")
    if not target.exists():
        target.hardlink_to(path)


def nothing(_tree: Path, _chance: random.Random) -> None:
    pass


EDITS: list[Callable[[Path, random.Random], None]] = [
    other_bytes,
    other_bytes,
    longer,
    replaced,
    exchanged,
    renamed,
    mode,
]
EDITS += [added, removed, directory, link, hard_link, nothing]


def tree_of(place: Path, chance: random.Random) -> Path:
    for name in ("Dockerfile", ".dockerignore", "a/one", "a/two", "a/b/three"):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(8))
    return place


@pytest.mark.parametrize("seed", range(3))
def test_no_edit_goes_unnoticed(seed: int, tmp_path: Path) -> None:
    """A thousand edits each: whatever reading would notice, the fingerprint notices."""
    chance = random.Random(seed)
    trees = [tree_of(tmp_path / str(number), chance) for number in range(50)]
    noticed = same = 0
    read = [naive(tree) for tree in trees]
    for _round in range(20):
        time.sleep(_TICK)  # so that all is settled: what is tested is the fingerprint, not the clock
        for number, tree in enumerate(trees):
            printed = fingerprint(trees=[str(tree)])
            assert printed is not None
            chance.choice(EDITS)(tree, chance)
            before, read[number] = read[number], naive(tree)
            unnoticed = fingerprint(trees=[str(tree)]) == printed
            assert before == read[number] or not unnoticed
            noticed += before != read[number]
            same += unnoticed
    assert noticed > 500
    assert same > 20  # it is not different each time


def test_an_edit_within_one_tick_is_not_trusted(tmp_path: Path) -> None:
    """Two states with equal times look alike, so a tree that changed just now has no fingerprint that could be kept."""
    tree = tree_of(tmp_path / "tree", random.Random(0))
    began = time.time_ns()
    assert fingerprint(trees=[str(tree)], settled=began - SETTLED_NS) is None
    assert fingerprint(trees=[str(tree)], settled=began + SETTLED_NS) is not None


@pytest.mark.parametrize("what", ["files", "trees", "places"])
def test_what_comes_and_goes_counts(what: str, tmp_path: Path) -> None:
    path = tmp_path / "directory"

    def printed() -> bytes | None:
        return fingerprint(**{what: [str(path)]})  # type: ignore[arg-type]  # one of three

    absent = printed()
    path.mkdir()
    there = printed()
    path.rmdir()
    assert absent == printed() != there


def test_a_link_on_the_way_counts(tmp_path: Path) -> None:
    for name in ("one", "two"):
        tree_of(tmp_path / name, random.Random(0))
    link_ = tmp_path / "link"
    link_.symlink_to("one")
    before = [fingerprint(trees=[str(link_)]), fingerprint(files=[str(link_ / "Dockerfile")])]
    link_.unlink()
    link_.symlink_to("two")
    after = [fingerprint(trees=[str(link_)]), fingerprint(files=[str(link_ / "Dockerfile")])]
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_of_a_place_only_its_mode_counts(tmp_path: Path) -> None:
    before = fingerprint(places=[str(tmp_path)])
    (tmp_path / "new").touch()
    assert fingerprint(places=[str(tmp_path)]) == before
    tmp_path.chmod(0o711)
    assert fingerprint(places=[str(tmp_path)]) != before


def test_what_is_no_file_has_no_fingerprint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert fingerprint(files=[str(tmp_path / "pipe")]) is None


def test_too_much_has_no_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tree_of(tmp_path / "tree", random.Random(0))
    assert fingerprint(trees=[str(tree)]) is not None
    monkeypatch.setattr("img_core.files.fingerprint._MOST", 4)
    assert fingerprint(trees=[str(tree)]) is None
