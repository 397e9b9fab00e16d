"""What a command waits for on the disk: its small database as it is closed, and everything else once at the most."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from harness.host import AS_ROOT, need
from harness.img import Img, write_context
from img_core.testing.images import make_image
from img_core.testing.registry import DockerRegistry

pytestmark = pytest.mark.rootless


def syncs(img: Img, trace: Path, *words: str) -> list[str]:
    """Return what was synced by ``img`` with *words*: ``call path``, without the database."""
    # SQLite syncs the directory, too, when it makes its files.
    database = re.compile(re.escape(str(img.state)) + "(/img.db.*)?")
    found = all_syncs(img, trace, *words)
    assert any(path.startswith(f"{img.state}/img.db") for _, path in found), "strace saw the database"
    return [f"{call} {path}" for call, path in found if call == "syncfs" or not database.fullmatch(path)]


def all_syncs(img: Img, trace: Path, *words: str) -> list[tuple[str, str]]:
    """Return each call that waits for the disk, of ``img`` with *words*, and the path that it names."""
    need("strace")
    # One id, because newuidmap(1) has no set-user-id bit for who is traced.
    img = img.with_environment(**({} if AS_ROOT else {"IMG_IDMAP": "single"}))
    watched = "trace=fsync,fdatasync,syncfs,sync,sync_file_range,msync"
    command = ["strace", "-f", "-qq", "-y", "-e", watched, "-o", str(trace), *img.command(*words)]
    subprocess.run(command, check=True, capture_output=True, env=img.environment())
    return re.findall(r"(\w*sync\w*)\(\d+<([^>]*)>", trace.read_text(errors="replace"))


def test_a_build_and_a_pull_sync_no_file(img: Img, tmp_path: Path) -> None:
    once: tuple[list[str], list[str]] = ([], [f"syncfs {img.state}"])  # the second on a quiet machine only
    context = write_context(tmp_path, "FROM busybox\nCOPY a /a\nRUN echo hello > /hello\n", {"a": "x" * 100_000})
    assert syncs(img, tmp_path / "trace", "build", "-t", "out", str(context)) in once
    with DockerRegistry(tmp_path / "registry") as registry:
        reference = registry.add("app", "1", make_image([{f"f{number}": b"x" * 1000} for number in range(20)]))
        assert syncs(img, tmp_path / "trace", "pull", reference) in once


def test_the_first_command_of_a_state_waits_for_its_database_once(tmp_path: Path) -> None:
    """What makes the files of a database has nothing to lose: they are synced with their first content."""
    (tmp_path / "home").mkdir()
    img = Img(tmp_path / "state", tmp_path / "home")
    with DockerRegistry(tmp_path / "registry") as registry:
        reference = registry.add("app", "1", make_image([{"f": b"x"}]))
        found = [path for call, path in all_syncs(img, tmp_path / "trace", "pull", reference) if call != "syncfs"]
    assert sorted(set(found)) == [str(img.state), f"{img.state}/img.db", f"{img.state}/img.db-wal"]
    assert len(found) <= 5, "the log and the directory before the database; the log once more if all of it was synced"
