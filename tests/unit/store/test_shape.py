"""Paths of the state directory that are of the wrong type: one line that names them, no waiting, no internal error."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.warm_commands import WarmCommands
from img_core.spec.errors import StateError
from img_core.store.store import Store


@pytest.fixture(scope="module")
def commands() -> Iterator[WarmCommands]:
    with WarmCommands(os.environ) as warm:
        yield warm


def put(path: Path, kind: str) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link that leads nowhere":
        path.symlink_to("nowhere")
    elif kind == "directory":
        path.mkdir()
        (path / "x").touch()
    else:
        path.write_text("garbage")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    store = Store(str(path))
    store.put(b"{}", "application/json")
    store.close()
    return path


LEASES = "img.db-leases-0"


@pytest.mark.parametrize("kind", ["fifo", "link that leads nowhere", "file"])
@pytest.mark.parametrize("name", ["blobs", "blobs/sha256", "names", "run", "snapshots"])
def test_a_directory_that_is_something_else_is_named(state: Path, name: str, kind: str) -> None:
    (state / name).parent.mkdir(exist_ok=True)
    put(state / name, kind)
    for writable in (True, False):
        with pytest.raises(StateError, match=f"^`{state}/{name}` is not a directory$"):
            Store(str(state), writable=writable)


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in ("img.db", "img.db-wal", LEASES, "locks") for kind in ("directory", "fifo")],
)
def test_a_database_that_is_no_file_is_named(state: Path, name: str, kind: str) -> None:
    put(state / name, kind)
    with pytest.raises(StateError, match=f"^`{state}/{name}` is not a file$"):
        Store(str(state))


def test_a_link_to_a_directory_elsewhere_is_one(state: Path, tmp_path: Path) -> None:
    (state / "blobs").rename(tmp_path / "other disk")
    (state / "blobs").symlink_to(tmp_path / "other disk")
    Store(str(state), writable=False).close()


ANYTHING = [
    "img.db",
    "img.db-wal",
    "img.db-shm",
    "img.db-leases",
    "blobs",
    "names",
    "run",
    "snapshots",
    "locks",
    "reserve",
]
ANYTHING += ["collected", "boot"]


@pytest.mark.parametrize("kind", ["fifo", "link that leads nowhere", "directory", "file"])
@pytest.mark.parametrize("name", ANYTHING)
def test_no_command_waits_or_has_an_internal_error(commands: WarmCommands, state: Path, name: str, kind: str) -> None:
    found = [path.name for path in state.iterdir() if name == "img.db-leases" and path.name.startswith(name)]
    for each in found or [name]:
        put(state / each, kind)
    for words in (["ls"], ["prune", "-f"], ["fsck"]):
        done = commands.run(["--state", str(state), *words], b"", os.environ, None, 60)
        told = done.stderr.decode()
        assert "internal error" not in told
        assert "Traceback" not in told
        assert told.count("Error: ") == (done.returncode != 0), told
