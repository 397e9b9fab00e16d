"""Builds with ``-b fuse-overlayfs`` in pods and on login nodes, and what ``auto`` takes where overlayfs cannot work."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from img_core.testing.executor_lab import BUSYBOX

if TYPE_CHECKING:
    from harness.situations import Situation
else:
    Situation = pytest.importorskip("harness.situations", reason="needs the tests of the whole repository").Situation

pytestmark = [
    pytest.mark.rootless,
    pytest.mark.skipif(os.geteuid() == 0, reason="root needs none of this"),
    pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse may not be opened"),
    pytest.mark.skipif(
        "fuse-overlayfs" not in entry_points(group="img.snapshotters").names,
        reason="img and img-snapshotter-fuse are not installed",
    ),
    pytest.mark.skipif(not os.access(BUSYBOX, os.X_OK), reason="needs a static busybox"),
]

DOCKERFILE = """\
FROM scratch AS build
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir -p /a/b && echo text > /a/b/c && ln /a/b/c /a/d && chown -R 33:34 /a && chmod 4755 /a/d
RUN rm -r /a/b && mkdir /a/b && echo more >> /a/d && rm /bin/vi
FROM scratch
COPY --from=build /a /a
COPY --from=build --chown=7 /a/d /e
"""
OWNERS = {"a/d": (33, 34), "a/b": (0, 0), "e": (7, 7)}
IDS = {"full": Situation(), "single": Situation(id_tools="missing")}
TROUBLES = {
    "normal": {},
    "masked-proc": {"masked_proc": True},
    "pod": {"masked_proc": True, "cgroups": False, "runtime_directory": False},
    "old-kernel": {"newest_call": 440},
}


def img(situation: Situation, directory: Path, *words: str, server: str = "") -> str:
    """Run the command on that host; return what it says."""
    (directory / "home").mkdir(exist_ok=True)
    environment = {**os.environ, "HOME": str(directory / "home"), "IMG_FUSE_OVERLAYFS": server}
    command = [sys.executable, "-m", "img_core", "-s", str(directory / "state"), *words]
    done = subprocess.run(
        situation.wrap(*command), capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "context"
    directory.mkdir()
    shutil.copy(BUSYBOX, directory / "busybox")
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "state").mkdir()
    yield directory
    # Files of ids that are ours only inside of a user namespace.
    subprocess.run(["unshare", "--user", "--map-root-user", "--map-auto", "rm", "-rf", tmp_path / "state"], check=True)


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("ids", IDS)
def test_both_servers_build_everywhere(context: Path, tmp_path: Path, ids: str, trouble: str) -> None:
    situation = IDS[ids].but(**TROUBLES[trouble])
    servers = [""] if importlib.util.find_spec("pyfuse3") else []
    servers += ["fuse-overlayfs"] if shutil.which("fuse-overlayfs") else []
    assert servers
    for server in servers:
        dest = tmp_path / "out.tar"
        output = f"type=tar,dest={dest}"
        img(
            situation,
            tmp_path,
            "-b",
            "fuse-overlayfs",
            "build",
            "--no-cache",
            "-o",
            output,
            str(context),
            server=server,
        )
        with tarfile.open(dest) as result:
            found = {member.name: (member.uid, member.gid) for member in result}
        assert {name: found.get(name) for name in OWNERS} == OWNERS, server
        assert "a/b/c" not in found


def test_auto_knows_that_it_cannot_lie_on_an_overlay_either(context: Path, tmp_path: Path) -> None:
    """An overlay, like the root of a container, refuses the whiteouts of another one."""
    on_overlay = Situation(overlay=str(tmp_path / "state"))
    for situation, reason in (
        (on_overlay, "does not work here"),
        (on_overlay.but(small_dev=True), "needs `/dev/fuse`"),
    ):
        said = img(situation, tmp_path, "--debug", "build", "-t", "x", str(context))
        assert f"debug: snapshotter `fuse-overlayfs` is not used: fuse-overlayfs {reason}" in said
        assert "debug: snapshotter `native` is used" in said
