"""Git repositories made by tests, and the real git daemon that serves them on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Repository", "git_daemon"]

_DATE = "1600000000 +0000"


class Repository:
    """A bare repository *name* below *root* and a work tree to fill it from."""

    def __init__(self, root: Path, name: str, work: Path) -> None:
        self.bare = root / name
        self.work = work
        work.mkdir(parents=True)
        self.git("init", "-q", "--bare", "-b", "main", str(self.bare))
        self.git("init", "-q", "-b", "main", ".")
        (self.bare / "git-daemon-export-ok").touch()

    def git(self, *arguments: str) -> str:
        """Run git in the work tree, as nobody in particular."""
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.work), "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@x", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@x",
            "GIT_AUTHOR_DATE": _DATE, "GIT_COMMITTER_DATE": _DATE,
        }  # fmt: skip
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *arguments], cwd=self.work, env=environment,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def write(self, files: dict[str, str | None], *, mode: int = 0o644) -> Repository:
        """Write *files* into the work tree; a name that ends with ``@`` becomes a link to its content."""
        for name, content in files.items():
            path = self.work / name.removesuffix("@")
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("@"):
                path.symlink_to(content or "")
            else:
                path.write_text(content or "")
                path.chmod(mode)
        return self

    def commit(self, message: str = "change") -> str:
        """Commit everything, push all branches and tags, and return the commit."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        self.push()
        return self.git("rev-parse", "HEAD")

    def push(self) -> None:
        """Push all branches and tags."""
        self.git("push", "-q", "--force", "--all", str(self.bare))
        self.git("push", "-q", "--force", "--tags", str(self.bare))


@contextmanager
def git_daemon(root: Path) -> Iterator[str]:
    """Serve the repositories below *root*; give the URL of *root*, without a slash at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    daemon = subprocess.Popen(
        ["git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", f"--base-path={root}", str(root)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        _wait_for(port)
        yield f"git://127.0.0.1:{port}"
    finally:
        os.killpg(daemon.pid, 15)
        daemon.wait()


def _wait_for(port: int) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return
