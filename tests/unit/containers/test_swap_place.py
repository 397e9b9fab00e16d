"""The tree of a step in the place of a root directory, here of a plain one: nothing of either may get lost, whatever ends whenever."""

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from img_core.files import faults
from img_core.files.locks import UNDO, RunDirectory, sweep
from img_executor_swap._place import RootPlace, undo

OURS = {".img", "dev", "etc/hosts", "etc/resolv.conf", "proc", "sys", "workspace/file", "link"}
THEIRS = {"bin", "dev/null", "etc/passwd", "srv", "usr/bin/sh", "workspace"}
_LOOKS = 0o751


def fill(directory: Path, paths: set[str], word: str) -> None:
    for path in sorted(paths):
        place = directory / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if path in ("bin", "link"):
            place.symlink_to("usr/bin")
        elif "/" in path:
            place.write_text(word)
        else:
            place.mkdir(exist_ok=True)


def listing(directory: Path) -> dict[str, str]:
    """Return all that is below *directory*, but not img's own home."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if not name.startswith(".img/"):
            found[name] = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
    return found


class Laboratory:
    """A root directory and a tree that is to take its place."""

    below = False

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.state = self.root / ".img/state"
        self.tree = self.state / "tree"
        fill(self.root, OURS, "ours")
        fill(self.tree, THEIRS, "theirs")
        self.tree.chmod(_LOOKS)
        os.utime(self.tree, ns=(10**18, 10**18))
        self.ours, self.theirs = listing(self.root), listing(self.tree)
        self.run = RunDirectory(str(self.state))
        self.place = self.new_place()

    def new_place(self) -> RootPlace:
        return RootPlace(str(self.tree), f"{self.run.path}/{UNDO}", str(self.root), below=self.below)

    def is_as_it_was(self) -> bool:
        return listing(self.root) == self.ours and stat.S_IMODE(self.root.stat().st_mode) == 0o755


class LaboratoryBelow(Laboratory):
    """The same for who may not write in the root directory: names of its directories change."""

    below = True

    def __init__(self, directory: Path) -> None:
        root = directory / "root"
        fill(root, {"usr", "srv", "app", "usr/lib/x", "srv/ours"}, "ours")
        (root / "lib").symlink_to("usr/lib")
        root.chmod(0o755)
        super().__init__(directory)
        (self.tree / "bin").unlink()
        (self.tree / "lib").symlink_to("/usr/lib")
        os.setxattr(self.tree / "srv", "user.img.owner", b"33:34")
        (self.tree / "srv").chmod(_LOOKS)
        os.utime(self.tree / "srv", ns=(10**18, 10**18))
        self.theirs = listing(self.tree)
        root.chmod(0o555)

    def is_as_it_was(self) -> bool:
        looks = [
            (os.listxattr(path), stat.S_IMODE(path.stat().st_mode)) for path in map(self.root.joinpath, DIRECTORIES)
        ]
        return listing(self.root) == self.ours and looks == [([], 0o755)] * len(DIRECTORIES)


DIRECTORIES = ("app", "etc", "srv", "usr", "workspace")


@pytest.fixture
def laboratory(tmp_path: Path) -> Laboratory:
    return Laboratory(tmp_path)


@pytest.fixture
def below(tmp_path: Path) -> Iterator[LaboratoryBelow]:
    made = LaboratoryBelow(tmp_path)
    yield made
    made.root.chmod(0o755)


def test_the_tree_is_the_root_directory_and_all_is_back_afterwards(laboratory: Laboratory) -> None:
    laboratory.place.enter()
    seen = {name: text for name, text in listing(laboratory.root).items() if not name.startswith(".img")}
    of_the_container = {"proc": "", "sys": ""}
    assert seen == {name: text for name, text in laboratory.theirs.items() if name != "dev/null"} | of_the_container
    assert stat.S_IMODE(laboratory.root.stat().st_mode) == _LOOKS
    laboratory.place.leave()
    assert laboratory.is_as_it_was()
    assert listing(laboratory.tree) == laboratory.theirs
    assert laboratory.tree.stat().st_mtime_ns == 10**18
    assert stat.S_IMODE(laboratory.tree.stat().st_mode) == _LOOKS
    assert not os.path.exists(laboratory.place.note)


def test_what_a_step_does_is_in_its_tree(laboratory: Laboratory) -> None:
    laboratory.place.enter()
    root = laboratory.root
    (root / "new").mkdir()
    (root / "new/file").write_text("new")
    (root / "bin").unlink()
    (root / "srv").rename(root / "moved")
    (root / "etc/passwd").write_text("changed")
    (root / "link").write_text("a name that the container has, too")
    root.chmod(0o700)
    laboratory.place.leave()
    expected = {**laboratory.theirs, "new": "", "new/file": "new", "moved": "", "etc/passwd": "changed"}
    expected["link"] = "a name that the container has, too"
    del expected["bin"], expected["srv"]
    assert listing(laboratory.tree) == expected
    assert laboratory.is_as_it_was()
    assert stat.S_IMODE(laboratory.tree.stat().st_mode) == 0o700
    assert laboratory.tree.stat().st_mtime_ns > 10**18


@pytest.mark.parametrize("name", [".img", ".img-aside-etc", ".img-note"])
def test_a_tree_with_a_name_of_ours_is_refused_before_anything_moves(laboratory: Laboratory, name: str) -> None:
    (laboratory.tree / name).mkdir()
    with pytest.raises(OSError, match=f"the image has `/{name}`"):
        laboratory.place.enter()
    assert laboratory.is_as_it_was()


def _in_child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _there_and_back(laboratory: Laboratory, at: int) -> None:
    faults.install(crash_at=at)
    place = laboratory.new_place()
    place.enter()
    os.mkdir(laboratory.root / ("app/new" if laboratory.below else "new"))
    place.leave()


@pytest.mark.parametrize("kind", [Laboratory, LaboratoryBelow])
def test_killed_before_any_change_the_next_command_brings_all_back(tmp_path: Path, kind: type[Laboratory]) -> None:
    for at in range(1, 60):
        laboratory = kind(tmp_path / str(at))
        code = _in_child(lambda here=laboratory, at=at: _there_and_back(here, at))  # type: ignore[misc]  # called at once
        os.close(laboratory.run._descriptor)  # as the end of the process does
        assert sweep(str(laboratory.state)) == 1
        assert laboratory.is_as_it_was(), f"killed at change {at}"
        left = listing(laboratory.tree)
        for made in ("app", "app/new", "new"):
            left.pop(made, None)
        assert left == laboratory.theirs, f"killed at change {at}"
        if code == 0:
            break
    assert code == 0
    assert at > 2 * len(THEIRS)


@pytest.mark.parametrize("kind", [Laboratory, LaboratoryBelow])
def test_killed_while_bringing_back_the_one_after_goes_on(tmp_path: Path, kind: type[Laboratory]) -> None:
    for at in range(1, 40):
        laboratory = kind(tmp_path / str(at))
        laboratory.place.enter()
        payload = json.loads(Path(laboratory.place.note).read_text())["payload"]

        def bring_back(at: int = at, payload: dict[str, object] = payload) -> None:
            faults.install(crash_at=at)
            undo(payload)

        code = _in_child(bring_back)
        undo(payload)
        assert laboratory.is_as_it_was()
        assert listing(laboratory.tree) == laboratory.theirs
        if code == 0:
            break
    assert code == 0


def test_a_step_with_another_state_directory_finds_what_was_left(laboratory: Laboratory) -> None:
    laboratory.place.enter()
    other = RootPlace(str(laboratory.tree), f"{laboratory.state}/note", str(laboratory.root))
    other.finish_other()
    assert laboratory.is_as_it_was()
    assert listing(laboratory.tree) == laboratory.theirs
    other.finish_other()
    other.enter()
    other.leave()
    assert laboratory.is_as_it_was()


def test_a_tree_that_is_gone_is_no_reason_to_keep_the_root_away(laboratory: Laboratory) -> None:
    laboratory.place.enter()
    laboratory.tree.rmdir() if not any(laboratory.tree.iterdir()) else laboratory.tree.rename(laboratory.state / "x")
    os.close(laboratory.run._descriptor)
    assert sweep(str(laboratory.state)) == 1
    assert laboratory.is_as_it_was()


# --- one level deeper -------------------------------------------------------------------------------------------------


def test_names_of_directories_change_where_those_of_the_root_cannot(below: LaboratoryBelow) -> None:
    below.place.enter()
    root = below.root
    assert (root / "etc/passwd").read_text() == (root / "usr/bin/sh").read_text() == "theirs"
    assert sorted(name for name in os.listdir(root / "etc") if name[0] != ".") == ["passwd"]
    assert os.getxattr(root / "srv", "user.img.owner") == b"33:34"
    assert stat.S_IMODE((root / "srv").stat().st_mode) == _LOOKS
    assert below.place.absent == {b"/app"}
    below.place.leave()
    assert below.is_as_it_was()
    assert listing(below.tree) == below.theirs
    assert below.tree.joinpath("srv").stat().st_mtime_ns == 10**18
    assert os.getxattr(below.tree / "srv", "user.img.owner") == b"33:34"


def test_what_a_step_does_below_is_in_its_tree(below: LaboratoryBelow) -> None:
    below.place.enter()
    root = below.root
    (root / "app/new").write_text("new")
    (root / "etc/passwd").write_text("changed")
    (root / "usr/bin/sh").rename(root / "srv/sh")
    (root / "srv").chmod(0o700)
    os.setxattr(root / "srv", "user.img.owner", b"7:8")
    (root / "workspace").joinpath("made").mkdir()
    below.place.leave()
    changes = {"app": "", "app/new": "new", "etc/passwd": "changed", "srv/sh": "theirs", "workspace/made": ""}
    expected = {**below.theirs, **changes}
    del expected["usr/bin/sh"]
    assert listing(below.tree) == expected
    assert below.is_as_it_was()
    assert stat.S_IMODE((below.tree / "srv").stat().st_mode) == 0o700
    assert os.getxattr(below.tree / "srv", "user.img.owner") == b"7:8"


def test_a_directory_that_a_step_makes_or_removes_is_told_by_the_supervisor(below: LaboratoryBelow) -> None:
    below.place.enter()
    below.place.absent.symmetric_difference_update({b"/app", b"/workspace"})
    below.place.leave()
    assert (below.tree / "app").is_dir()
    assert not (below.tree / "workspace").exists()
    assert below.is_as_it_was()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("new/", "the image has the directory `/new`.*img's own image must have a directory `/new`"),
        ("file", "the image has the file `/file`"),
        ("app", "`/app` is no directory in the image"),
        ("sbin/", "`/sbin` is no link to `usr/sbin`.*merged /usr"),
        ("usr/.img-note", "the image has `/usr/.img-note`"),
    ],
)
def test_what_has_no_place_is_refused_before_anything_moves(below: LaboratoryBelow, name: str, words: str) -> None:
    path = below.tree / name
    path.mkdir() if name.endswith("/") else path.write_text("")
    with pytest.raises(OSError, match=words):
        below.place.enter()
    assert below.is_as_it_was()
    assert not os.path.exists(below.place.note)
