"""A real registry on loopback: the ``docker-registry`` program, over plain HTTP or TLS, with or without a login.

::

    with DockerRegistry(tmp_path) as registry:
        subprocess.run(["skopeo", "copy", "--dest-tls-verify=false", "oci:layout:x", f"docker://{registry.address}/x:latest"])

For TLS pass an `Authority`; clients trust it when ``SSL_CERT_FILE`` names its certificate, or when that was added to the
system's store. See `img_core.testing.faulty_registry` for one that misbehaves on command.
"""

from __future__ import annotations

import base64
import errno
import http.client
import json
import os
import random
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from img_core.images.oci import digest as image_digest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from img_core.testing.images import SmallImage
    from img_core.testing.token_server import TokenServer

__all__ = ["PASSWORD", "USER", "Authority", "DockerRegistry", "free_port"]

#: The login of a registry started with ``login=True``.
USER = "joe"
PASSWORD = "correct horse"  # noqa: S105 - of a registry that lives for one test
_PASSWORD_FILE = "joe:$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2\n"  # noqa: S105 - bcrypt of the above
_START_SECONDS = 20.0
#: below those that the kernel gives to who asks for any (ip(7), ``ip_local_port_range``)
_PORTS = range(15_000, 32_000)
_TRIES = 3  # another program may take the port between our look and the registry's


def free_port(address: str = "127.0.0.1") -> int:
    """Return a TCP port that is free at this moment, and that nobody gets by chance."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311
        with socket.socket() as listener:
            try:
                listener.bind((address, port))
            except OSError as err:
                if err.errno != errno.EADDRINUSE:
                    raise
            else:
                return port


class Authority:
    """A certificate authority of one test, made with the ``openssl`` program in *directory*."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate = directory / "ca.pem"
        self._key = directory / "ca.key"
        self._run(
            "req", "-x509", *_NEW_KEY, "-keyout", self._key, "-out", self.certificate, "-days", "2",
            "-subj", "/CN=img test authority", "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip

    def issue(self, name: str, hosts: Iterable[str] = ("127.0.0.1", "::1", "localhost")) -> tuple[Path, Path]:
        """Return certificate and key for *hosts* (names or addresses), in files called after *name*."""
        certificate, key, request = (self._directory / f"{name}{suffix}" for suffix in (".pem", ".key", ".csr"))
        names = ",".join(("IP:" if host[0].isdigit() or ":" in host else "DNS:") + host for host in hosts)
        extensions = self._directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        self._run("req", "-new", *_NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        self._run(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
            "-days", "2", "-extfile", extensions, "-out", certificate,
        )  # fmt: skip
        return certificate, key

    def _run(self, *arguments: str | Path) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, stdin=subprocess.DEVNULL)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class DockerRegistry:
    """The ``docker-registry`` program with its files in *directory*; runs inside a ``with``.

    *authority* makes it speak TLS. With *login* it wants `USER` and `PASSWORD` (Basic), with *tokens* a token of that server.
    """

    def __init__(
        self,
        directory: Path,
        *,
        authority: Authority | None = None,
        login: bool = False,
        tokens: TokenServer | None = None,
    ) -> None:
        self._directory = directory
        self._tokens = tokens
        self._authority = authority
        self._login = login
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def address(self) -> str:
        """``127.0.0.1:port``, as it stands in references."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What the registry wrote so far."""
        return (self._directory / "log").read_text(errors="replace")

    def add(self, repository: str, tag: str, image: SmallImage) -> str:
        """Push *image* without our own client, byte for byte; return its reference."""
        manifests = [content for content in image.blobs.values() if b'"schemaVersion"' in content[:40]]
        for digest, content in image.blobs.items():
            if content not in manifests:
                location = self._request("POST", f"/v2/{repository}/blobs/uploads/")
                target = urlsplit(location)
                self._request(
                    "PUT", f"{target.path}?{target.query}&digest={digest}", content, "application/octet-stream"
                )
        for content in sorted(manifests, key=lambda content: content == image.content):  # what others refer to first
            name = tag if content == image.content else image_digest(content)
            self._request("PUT", f"/v2/{repository}/manifests/{name}", content, json.loads(content)["mediaType"])
        return f"{self.address}/{repository}:{tag}"

    def _request(self, method: str, path: str, content: bytes = b"", media_type: str = "") -> str:
        """Send one request; return the Location of the answer."""
        connection: http.client.HTTPConnection
        if self._authority is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        else:
            context = ssl.create_default_context(cafile=self._authority.certificate)
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=context)
        headers = {"Content-Type": media_type} if media_type else {}
        if self._login:
            headers["Authorization"] = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        with closing(connection):
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {answer.read(2000)!r}")
            return answer.getheader("Location", "")

    def __enter__(self) -> DockerRegistry:
        self._directory.mkdir(parents=True, exist_ok=True)
        program = shutil.which("docker-registry")
        if program is None:
            raise FileNotFoundError("the program `docker-registry` is needed (Debian package of the same name)")
        for _ in range(_TRIES):
            self.port = free_port()
            if self._start(program):
                return self
        raise RuntimeError(f"docker-registry does not start:\n{self.log}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self, program: str) -> bool:
        config = self._directory / "config.yml"
        config.write_text(json.dumps(self._config()))  # JSON is YAML
        # Memory of a small process is cheaper than a third of its time, which collecting it takes.
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._directory), "GOGC": "800"}
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, "serve", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        deadline = time.monotonic() + _START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            if self._listens():
                return True
            time.sleep(0.01)
        self._stop()
        return False

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _config(self) -> dict[str, object]:
        http: dict[str, object] = {"addr": self.address}
        if self._authority is not None:
            certificate, key = self._authority.issue("registry")
            http["tls"] = {"certificate": str(certificate), "key": str(key)}
        config: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self._directory / "data")}, "delete": {"enabled": True}},
            "http": http,
        }
        if self._login:
            passwords = self._directory / "htpasswd"
            passwords.write_text(_PASSWORD_FILE)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(passwords)}}
        if self._tokens is not None:
            from img_core.testing.token_server import ISSUER, SERVICE

            bundle = str(self._tokens.authority.certificate)
            config["auth"] = {
                "token": {"realm": self._tokens.realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": bundle}
            }
        return config
