"""The executor `chroot`: which paths lead to no system file, whatever a step does to the links of its tree."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from harness.bpf import evaluate
from img_executor_chroot import _calls, _filter
from img_executor_chroot._links import leads_to
from img_executor_chroot._outside import NAMES, StepTree
from img_executor_chroot._ways import FIRST_LOOK, Ways

NOTIFY = 0x7FC00000
STEP = os.getpid()


class Step:
    """Does to a tree what a step does, and tells `Ways` of it before, as the supervisor does."""

    def __init__(self, top: Path) -> None:
        for name in ("proc", "sys", "dev", "dev/pts", "etc", "a", "a/b"):
            (top / name).mkdir()
        for name in ("proc/self", "proc/uptime", "sys/kernel", "dev/null", "dev/tty"):
            (top / name).symlink_to(name.rpartition("/")[2])
        self.top = top
        self.tree = StepTree(os.open(top, os.O_PATH | os.O_DIRECTORY), [], devices=True)
        self.ways = Ways(self.tree.root, NAMES, self.tree.places)
        self.before = Ways(self.tree.root, ())  # which is told what others do before the step

    def look(self) -> None:
        """Look up so much that all of the tree is looked at."""
        self.ways.looked_up(FIRST_LOOK)

    @contextmanager
    def naming(self) -> Iterator[None]:
        self.ways.makes_name(STEP)
        try:
            yield
        finally:
            self.ways.calls(STEP)

    def symlink(self, text: str, name: str) -> None:
        with self.naming():
            self.ways.makes_link(name.encode(), text.encode())
            (self.top / name).symlink_to(text)

    def link(self, old: str, name: str) -> None:
        with self.naming():
            self.ways.links(old.encode(), name.encode())
            os.link(self.top / old, self.top / name, follow_symlinks=False)

    def rename(self, old: str, name: str) -> None:
        with self.naming():
            self.ways.links(old.encode(), name.encode())
            (self.top / old).rename(self.top / name)

    def mkdir(self, name: str) -> None:
        (self.top / name).mkdir()

    def remove(self, name: str) -> None:
        path = self.top / name
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()

    def is_harmless(self, path: str) -> bool:
        return self.ways.known and self.ways.names.isdisjoint(path.encode().split(b"/"))

    def is_plain(self, path: str) -> bool:
        """Ask as the supervisor does, which looks at the path itself before."""
        whole = b"/" + path.encode()
        return self.tree.system_path(whole) is None and self.ways.is_plain(whole)

    def leads(self, path: str) -> bool:
        whole = b"/" + path.encode()
        return self.tree.system_path(whole) is not None or leads_to(self.tree, whole, follow=True) is not None


@pytest.fixture
def step(tmp_path: Path) -> Iterator[Step]:
    step = Step(tmp_path)
    yield step
    for fd in (step.tree.root, *step.tree.held):
        os.close(fd)


Change = Callable[[Step], None]
#: what others did before the step, and what it does; and a path that leads to a system file then
CASES: dict[str, tuple[list[Change], list[Change], str]] = {
    "a link that was there": ([lambda s: s.symlink("/proc/uptime", "a/x")], [], "a/x"),
    "a link that is made": ([], [lambda s: s.symlink("../proc/uptime", "a/x")], "a/x"),
    "a chain, its end first": (
        [lambda s: s.symlink("/proc", "p")], [lambda s: s.symlink("p", "q"), lambda s: s.symlink("q/uptime", "r")], "r",
    ),
    "a chain, its end last": (
        [lambda s: s.symlink("q/uptime", "r")], [lambda s: s.symlink("p", "q"), lambda s: s.symlink("/proc", "p")], "r",
    ),
    "a link with another name": ([lambda s: s.symlink("/proc/uptime", "x")], [lambda s: s.rename("x", "a/y")], "a/y"),
    "a link with one more name": ([lambda s: s.symlink("/dev/null", "x")], [lambda s: s.link("x", "a/y")], "a/y"),
    "another name before it leads anywhere": (
        [], [lambda s: s.symlink("p/uptime", "x"), lambda s: s.rename("x", "y"), lambda s: s.symlink("/proc", "p")], "y",
    ),
    "a name of a name of a link": (
        [lambda s: s.symlink("/proc", "x")], [lambda s: s.link("x", "y"), lambda s: s.rename("y", "z")], "z/uptime",
    ),
    "in a directory with another name": (
        [lambda s: s.symlink("/dev/null", "a/b/x")], [lambda s: s.rename("a", "c")], "c/b/x",
    ),
    "a link to the root directory": ([lambda s: s.symlink("/", "a/root")], [], "a/root/proc/uptime"),
    "the directory itself, by a link": ([lambda s: s.symlink("..", "a/up")], [], "a/up/proc"),
    "a name in a text with more slashes": ([], [lambda s: s.symlink("..//proc//./uptime/", "a/x")], "a/x"),
    "a name with a slash at its end": ([lambda s: s.symlink("/proc", "x")], [lambda s: s.rename("x", "y/")], "y/uptime"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_path_that_leads_out_is_never_taken_for_harmless(step: Step, name: str) -> None:
    before, after, path = CASES[name]
    ways, step.ways = step.ways, step.before
    for change in before:
        change(step)
    step.ways = ways
    step.look()
    assert step.is_harmless("a/b/nothing")
    for change in after:
        change(step)
    assert step.leads(path)
    assert not step.is_harmless(path)
    assert step.is_harmless("a/b/nothing")


@pytest.mark.parametrize("seed", range(12))
def test_nor_is_any_path_after_any_changes(step: Step, seed: int) -> None:
    chance = random.Random(seed)
    names = ["a", "b", "c", "d", "e"]
    texts = [*names, "..", "/", "proc", "uptime", "dev", "null", "self", "/proc", "/dev/pts"]
    looks_at, led = chance.randrange(40), 0

    def path(parts: list[str]) -> str:
        return "/".join(chance.choices(parts, k=chance.randint(1, 3)))

    for number in range(120):
        if number == looks_at:
            step.look()
        change = chance.choice((step.symlink, step.symlink, step.link, step.rename))
        try:
            change(path(texts) if change == step.symlink else path(names), path(names))
        except OSError:
            continue
        for _ in range(20):
            asked = path(texts)
            if step.leads(asked):
                led += 1
                assert not step.is_harmless(asked)
    assert step.ways.known
    assert led


@pytest.mark.parametrize("seed", range(12))
def test_a_path_without_links_is_remembered_until_somebody_makes_a_name(step: Step, seed: int) -> None:
    chance = random.Random(seed)
    made = {
        "a/e": "/proc",
        "a/f": "/dev",
        "g": "a/e",
        "h": "a/b",
        "a/b/i": "../../h",
        "j": "h/../e",
        "k": "/h/x",
    }  # by others, before
    for name, text in made.items():
        (step.top / name).symlink_to(text)
    names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "../a", "./b"]
    texts = [*names, "..", "/", "proc", "uptime", "null", "/proc", "/dev/pts"]
    remembered, kept, led = 0, 0, 0

    def path(parts: list[str]) -> str:
        return "/".join(chance.choices(parts, k=chance.randint(1, 3)))

    for _ in range(400):
        with suppress(OSError):
            if chance.random() < 0.6:
                kept += len(step.ways.harmless)
                chance.choice((step.mkdir, step.remove))(path(names))
            else:
                change = chance.choice((step.symlink, step.link, step.rename))
                change(path(texts if change == step.symlink else names), path(names))
        for known in step.ways.harmless:
            assert not step.leads(known[1:].decode())
        for asked in (path(texts) for _ in range(5)):
            leads = step.leads(asked)
            led += leads
            plain = step.is_plain(asked)
            assert not (plain and leads)
            remembered += plain
    assert remembered
    assert kept
    assert led


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("known", [False, True])
def test_so_is_one_that_only_holds_such_a_name(step: Step, seed: int, known: bool) -> None:
    chance = random.Random(seed)
    names = ["a", "b", "c", "proc", "sys", "null", "dev", "pts", "a/proc", "a/sys", "b/null", "dev/null"]
    texts = [*names, "..", "/", "uptime", "self", "/proc", "/sys", "/dev/pts"]
    remembered, kept, led = 0, 0, 0

    def path(parts: list[str]) -> str:
        return "/".join(chance.choices(parts, k=chance.randint(1, 3)))

    if known:
        step.look()
    for _ in range(400):
        with suppress(OSError):
            if chance.random() < 0.7:
                kept += len(step.ways.plain)
                chance.choice((step.mkdir, step.mkdir, step.remove))(path(names))
            else:
                change = chance.choice((step.symlink, step.link, step.rename))
                change(path(texts if change == step.symlink else names), path(names))
        for remembered_path in step.ways.plain:
            assert not step.leads(remembered_path[1:].decode()), remembered_path
        for asked in (path(texts) for _ in range(5)):
            leads = step.leads(asked)
            led += leads
            assert not (step.is_plain(asked) and leads), asked
            remembered += b"/" + asked.encode() in step.ways.plain
    assert step.ways.known == known
    assert remembered
    assert kept
    assert led


#: what a step does, and a path with one of the first names; whether that is remembered then
NAMED: dict[str, tuple[Change, str, bool]] = {
    "a directory": (lambda s: s.mkdir("a/proc"), "a/proc", True),
    "a file in it": (lambda s: s.mkdir("a/sys"), "a/sys/x", True),
    "nothing": (lambda s: None, "a/b/null", True),
    "nothing below a file": (lambda s: (s.top / "a/null").touch(), "a/null/x", True),
    "a link": (lambda s: s.symlink("/proc", "a/proc"), "a/proc", False),
    "below a link": (lambda s: s.symlink("b", "a/proc"), "a/proc/x", False),
    "the directory of proc with another name": (lambda s: s.rename("proc", "a/sys"), "a/sys", False),
    "that of terminals": (lambda s: s.rename("dev", "a/proc"), "a/proc/pts", False),
    "proc itself": (lambda s: None, "proc", False),
    "in proc": (lambda s: None, "a/../proc/uptime", False),
}


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("name", NAMED)
def test_a_path_with_a_name_of_a_system_file_is_looked_up_once(step: Step, name: str, known: bool) -> None:
    change, path, remembered = NAMED[name]
    change(step)
    if known:
        step.look()
    assert step.is_plain(path) == remembered
    assert (b"/" + path.encode() in step.ways.plain) == remembered
    step.ways.makes_name(STEP)
    assert not step.ways.plain
    assert step.is_plain(path) == remembered
    assert not step.ways.plain  # we might be in the middle of it


@pytest.mark.parametrize("path", ["up", "x/../q"])
def test_a_directory_in_place_of_a_link_leads_nowhere_unseen(step: Step, path: str) -> None:
    for name, text in {"q": "/proc", "x": "a/b", "up": "x/../q"}.items():
        (step.top / name).symlink_to(text)
    step.ways.is_plain(b"/" + path.encode())
    step.remove("x")
    step.mkdir("x")
    assert step.leads(path)
    assert not step.ways.harmless


def test_paths_by_links_from_behind_which_nothing_leads_up_are_remembered(step: Step) -> None:
    for name, text in {"lib": "a", "a/x": "../a/b/y", "a/b/z": "/lib/b", "up": "a/b/..", ".../x": "../a"}.items():
        (step.top / name).parent.mkdir(exist_ok=True)
        (step.top / name).symlink_to(text)
    (step.top / "...up").symlink_to(".../../a")
    for path, remembered in {
        "/lib/b": True, "/lib/x": True, "/lib/b/z/nothing": True, "/.../x": True, "/up/b": False, "/lib/../a": False, "/...up": False,
    }.items():  # fmt: skip
        assert step.ways.is_plain(path.encode()) == remembered, path
        assert (path.encode() in step.ways.harmless) == remembered, path


def test_nothing_is_remembered_while_somebody_makes_a_name(step: Step) -> None:
    step.ways.makes_name(STEP)
    assert step.ways.is_plain(b"/a/b")
    assert not step.ways.harmless
    step.ways.calls(STEP)
    assert step.ways.is_plain(b"/a/b")
    assert step.ways.harmless == {b"/a/b"}
    step.ways.give_up()
    assert step.ways.is_plain(b"/a/b")
    assert not step.ways.harmless


def test_what_was_remembered_without_links_is_no_knowledge_of_names(step: Step) -> None:
    step.ways, ways = step.before, step.ways
    step.symlink("/proc", "a/c")
    step.ways = ways
    (step.top / "c").mkdir()
    assert step.ways.is_plain(b"/c")
    step.look()
    assert step.ways.known
    assert not step.ways.harmless


def test_a_tree_is_looked_at_when_that_pays_and_nothing_gets_a_name(step: Step) -> None:
    for number in range(FIRST_LOOK * 15):
        (step.top / f"a/{number}").touch()
    step.look()
    assert not step.ways.known  # too large for so few calls
    step.ways.makes_name(STEP)
    step.look()
    assert not step.ways.known  # we might be in the middle of it
    step.ways.calls(STEP)
    step.ways.looked_up(2 * FIRST_LOOK)
    assert step.ways.known


def test_what_cannot_be_known_ends_it(step: Step) -> None:
    step.look()
    step.ways.links(b"", b"somewhere/x")  # AT_EMPTY_PATH: what a descriptor is of
    assert not step.is_harmless("x/y")
    assert step.is_harmless("y")
    step.ways.give_up()
    for _ in range(4):
        step.look()
    assert not step.ways.known


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_call_that_makes_names_stops(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    abis = _calls.abis_of(machine)
    monkeypatch.setattr(_filter, "ABIS", abis)
    program = _filter.program([], network=True, everybody=True)
    for abi in abis:
        assert {"symlinkat", "linkat", "renameat", "renameat2"} <= abi.named.keys()
        assert ("symlink" in abi.named) == ("rename" in abi.named) == ("link" in abi.named)
        for number in abi.namings:
            assert evaluate(program, abi.architecture, number) == NOTIFY
