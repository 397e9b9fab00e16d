"""Git repositories made by tests, and the real git daemon that serves them on loopback."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from harness.web import speak_tls
from img_core.testing.registry import free_port

__all__ = ["Repository", "git_daemon", "git_web_server"]

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

    def copy(self, root: Path, work: Path) -> Repository:
        """Make the same repository below *root*, with a work tree of its own: neither names the other."""
        made = copy(self)
        made.bare, made.work = root / self.bare.name, work
        shutil.copytree(self.bare, made.bare, symlinks=True)
        shutil.copytree(self.work, made.work, symlinks=True)
        return made

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
    port = free_port()
    daemon = subprocess.Popen(
        ["git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", f"--base-path={root}", str(root)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        _wait_for(port)
        yield f"git://127.0.0.1:{port}"
    finally:
        os.killpg(daemon.pid, 15)
        daemon.wait(60)


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


@contextmanager
def git_web_server(
    root: Path, answers: dict[str, str] | None = None, *, certificate: tuple[Path, Path] | None = None
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Serve the repositories below *root* over HTTP; give the URL of *root* and the headers of all requests, names in lower case.

    With *certificate* and key it speaks TLS. *answers* maps paths to ``401`` (always refused), ``<host:port>`` (sent there) or a value
    that ``Authorization`` must have.
    """
    requests: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append({name.lower(): value for name, value in self.headers.items()})
            path, _, query = self.path.partition("?")
            rule = next((rule for start, rule in (answers or {}).items() if path.startswith(start)), "")
            if re.fullmatch(r"[\d.]+:\d+", rule):
                self._answer(302, {"Location": f"http://{rule}{self.path}"})
            elif rule and self.headers.get("Authorization") != rule:
                self._answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
            else:
                self._serve(path, query)

        do_POST = do_GET  # noqa: N815 - the library's name

        def _answer(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def _serve(self, path: str, query: str) -> None:
            length = int(self.headers.get("Content-Length", 0))
            environment = {
                "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
                "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_LENGTH": str(length),
                "CONTENT_TYPE": self.headers.get("Content-Type", ""), "REMOTE_ADDR": "127.0.0.1",
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
            }  # fmt: skip
            done = subprocess.run(
                ["git", "http-backend"], input=self.rfile.read(length), env=environment, capture_output=True, check=True
            )
            head, _, body = done.stdout.partition(b"\r\n\r\n")
            lines = [line.partition(": ") for line in head.decode().split("\r\n")]
            status = next((int(value.split()[0]) for name, _, value in lines if name == "Status"), 200)
            self.send_response(status)
            for name, _, value in lines:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))  # a cut end would be an error of TLS
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        speak_tls(server, certificate)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
