"""Running ``img`` as people do: in a process of its own, with a home and a state directory of its own.

Most of them are forks, see `harness.warm_commands`; what a start costs is asked of the real program (`test_cli_startup.py`).
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from harness.warm_commands import run

ROOT = Path(__file__).parents[3]


def environment(home: Path, **changes: str) -> dict[str, str]:
    """Return an environment without the user's configuration."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}}
    paths = [str(ROOT), str(ROOT / "plugins"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {
        **kept,
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        **changes,
    }


def img(home: Path, *words: str, stdin: bytes = b"", **changes: str) -> subprocess.CompletedProcess[str]:
    """Run ``img`` with *words*; *changes* are environment variables."""
    command = [sys.executable, "-m", "img_core", *words]
    done = run(command, environment(home, **changes), stdin=stdin, cwd=home, timeout=60)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def rootfs_tar(**files: bytes) -> bytes:
    """Return a tar archive of a root file system with *files* (names with ``_`` for ``/``)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (files or {"etc_hostname": b"box\n"}).items():
            member = tarfile.TarInfo(name.replace("_", "/"))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
