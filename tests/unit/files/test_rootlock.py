"""Commands that share the files of ``/``, and a step that wants them alone."""

from __future__ import annotations

import fcntl
import os
import select
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from img_core.files import locks, rootlock


def child(work: Callable[[Path], None], home: Path) -> int:
    """Do *work* in a child that holds nothing of ours; return its pid."""
    pid = os.fork()
    if pid == 0:
        while rootlock._held:
            os.close(rootlock._held.pop().directory)
        try:
            work(home)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return pid


def ended(pid: int, seconds: float) -> bool:
    """Tell whether a process ends in that time; take its status, which has to be 0, if it does."""
    pidfd = os.pidfd_open(pid)
    try:
        if not select.select([pidfd], [], [], seconds)[0]:
            return False
    finally:
        os.close(pidfd)
    assert os.waitpid(pid, 0)[1] == 0
    return True


def release() -> None:
    """Do what the end of this process would do."""
    ended = rootlock._held.pop()
    ended.give()
    os.close(ended.directory)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(rootlock, "_held", [])
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def share(home: Path) -> None:
    said: list[str] = []
    rootlock.share(said.append, home=str(home), root=str(home.parent))
    (home / "said").write_text(str(len(said)))


def alone(home: Path) -> None:
    with rootlock.alone(lambda: False, home=str(home)) as taken:
        assert taken


def test_a_command_waits_for_a_step_and_says_so(home: Path) -> None:
    with rootlock.alone(lambda: False, home=str(home)):
        pid = child(share, home)
        assert not ended(pid, 0.2)
    assert ended(pid, 60)
    assert (home / "said").read_text() == "1"


def test_a_step_waits_for_a_command(home: Path) -> None:
    share(home)
    pid = child(alone, home)
    assert not ended(pid, 0.2)
    release()
    assert ended(pid, 60)


def test_two_commands_with_steps_take_turns(home: Path) -> None:
    def both(home: Path) -> None:
        share(home)
        for _ in range(20):
            alone(home)

    pids = [child(both, home) for _ in range(3)]
    assert all(ended(pid, 60) for pid in pids)


def test_who_is_canceled_waits_no_more_and_shares_again(home: Path) -> None:
    share(home)
    other = os.open(home, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_SH)
    with rootlock.alone(lambda: True, home=str(home)) as taken:
        assert not taken
    os.close(other)
    pid = child(alone, home)
    assert not ended(pid, 0.2)
    release()
    assert ended(pid, 60)


def look(home: Path) -> None:
    with rootlock.sharing(lambda _text: None, home=str(home), root=str(home.parent)):
        (home / "looked").touch()


def test_a_process_that_lives_on_keeps_steps_waiting_while_it_looks_and_no_longer(home: Path) -> None:
    with rootlock.sharing(print, home=str(home), root=str(home.parent)):
        look(home)  # a call that calls another one
        pid = child(alone, home)
        assert not ended(pid, 0.2)
    assert ended(pid, 60)
    assert not rootlock._held
    with rootlock.alone(lambda: False, home=str(home)):
        pid = child(look, home)
        assert not ended(pid, 0.2)
        assert (home / "looked").exists()  # that was ours
    assert ended(pid, 60)


def test_its_threads_come_one_after_the_other(home: Path) -> None:
    with rootlock.sharing(print, home=str(home), root=str(home.parent)):
        other = threading.Thread(target=look, args=(home,))
        other.start()
        other.join(0.2)
        assert other.is_alive()
        alone(home)  # a step of what is done here
    other.join(60)
    assert (home / "looked").exists()
    assert not rootlock._held


def test_what_a_worker_asks_for_waits_for_no_step(home: Path) -> None:
    """It could be the worker's."""
    with rootlock.alone(lambda: False, home=str(home)), rootlock.serving():
        look(home)
    assert not rootlock._held


def test_who_waits_for_somebody_keeps_no_step_waiting(home: Path) -> None:
    share(home)
    with rootlock.given_up():
        assert ended(child(alone, home), 60)
    pid = child(alone, home)
    assert not ended(pid, 0.2)
    release()
    assert ended(pid, 60)
    with rootlock.given_up():  # of nothing
        pass


def test_what_was_left_meanwhile_is_brought_back(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undone: list[str] = []
    monkeypatch.setattr(locks, "undo", undone.append)
    share(home)
    note = home / locks.UNDO
    note.touch()
    with rootlock.given_up():
        (home.parent / rootlock.NOTE).symlink_to(note)
    assert undone == [str(note)]
    release()


def test_where_no_img_has_a_home_nothing_is_waited_for(tmp_path: Path) -> None:
    rootlock.share(lambda _text: None, home=str(tmp_path / "none"), root=str(tmp_path))
    assert not rootlock._held


@pytest.mark.parametrize("place", rootlock.PLACES)
@pytest.mark.parametrize(
    ("where", "name", "believed"),
    [("home/run", locks.UNDO, True), ("home", "x.json", False), ("elsewhere", locks.UNDO, False)],
)
def test_a_note_counts_that_lies_in_the_home(
    home: Path, monkeypatch: pytest.MonkeyPatch, place: str, where: str, name: str, believed: bool
) -> None:
    """One that lies elsewhere may be an image's."""
    undone: list[str] = []
    monkeypatch.setattr(locks, "undo", undone.append)
    root = home.parent
    for directory in (root / where, root / place):
        directory.mkdir(parents=True, exist_ok=True)
    note = root / where / name
    note.touch()
    (root / place / rootlock.NOTE).symlink_to(note)
    share(home)
    assert undone == [str(note)] * believed
