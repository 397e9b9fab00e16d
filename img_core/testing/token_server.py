"""A small token server for `DockerRegistry`: who logs in may push and pull, anybody else may pull what is public.

::

    with TokenServer(authority) as tokens, DockerRegistry(tmp_path, authority=authority, tokens=tokens) as registry:
        …

It speaks the protocol of distribution's "Token Authentication Specification": ``GET /token?service=…&scope=…`` with Basic
credentials gives a JSON web token (RFC 7519, ES256) whose certificate chain ends at the authority that the registry trusts;
``POST`` exchanges an identity token in the way of OAuth 2.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.testing.registry import Authority

__all__ = ["IDENTITY_TOKEN", "ISSUER", "SERVICE", "TokenServer"]

ISSUER = "img test tokens"
SERVICE = "img test registry"
IDENTITY_TOKEN = "identity-of-joe"  # noqa: S105 - of a server that lives for one test
_SECONDS = 300
_DER_INTEGER = 2


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for a token: who asked (empty: nobody known), and for which scopes."""

    user: str
    scopes: tuple[str, ...]


class TokenServer:
    """Runs inside a ``with``, over TLS. *logins* maps user to password. Repositories below *public* can be pulled by anybody."""

    def __init__(self, authority: Authority, logins: Mapping[str, str], *, public: str = "public/") -> None:
        self.authority = authority
        self.asked: list[Asked] = []
        self._logins = dict(logins)
        self._public = public
        self._certificate, self._key = authority.issue("tokens")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate, self._key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def realm(self) -> str:
        """The address that the registry sends its clients to."""
        return f"https://127.0.0.1:{self._server.server_address[1]}/token"

    def __enter__(self) -> TokenServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def user_of(self, authorization: str) -> str | None:
        """Return who a Basic header is: empty for nobody, None for a wrong password."""
        if not authorization:
            return ""
        user, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        return user if self._logins.get(user) == password else None

    def user_of_identity(self, token: str) -> str | None:
        """Return who an identity token stands for."""
        return next(iter(self._logins)) if token == IDENTITY_TOKEN else None

    def grant(self, user: str, scopes: Sequence[str]) -> str:
        """Return a token with the rights among *scopes* that *user* has."""
        self.asked.append(Asked(user, tuple(scopes)))
        access = [self._access(user, *scope.split(":", 2)) for scope in scopes if scope.count(":") >= 2]
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": user,
            "aud": SERVICE,
            "iat": now,
            "nbf": now - 10,
            "exp": now + _SECONDS,
            "jti": f"{len(self.asked)}",
            "access": access,
        }
        return self._sign(claims)

    def _access(self, user: str, kind: str, name: str, actions: str) -> dict[str, object]:
        allowed = actions.split(",") if user else ["pull"] if name.startswith(self._public) else []
        return {"type": kind, "name": name, "actions": [action for action in actions.split(",") if action in allowed]}

    def _sign(self, claims: Mapping[str, object]) -> str:
        body = re.sub(r"-----[A-Z ]+-----|\s", "", self._certificate.read_text())
        header = {"typ": "JWT", "alg": "ES256", "x5c": [body]}
        text = f"{_encoded(header)}.{_encoded(claims)}".encode()
        signed = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self._key], input=text, capture_output=True, check=True
        )
        return (text + b"." + _base64(_plain_signature(signed.stdout))).decode()


def _encoded(value: Mapping[str, object]) -> str:
    return _base64(json.dumps(value).encode()).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _plain_signature(der: bytes) -> bytes:
    """Turn OpenSSL's form of a signature (DER, a sequence of two integers) into that of RFC 7518, 3.4: 32 bytes each."""
    numbers, position = b"", 2
    for _ in range(2):
        kind, length = der[position], der[position + 1]
        if kind != _DER_INTEGER:
            raise ValueError("not a signature")
        position += 2
        numbers += der[position : position + length].lstrip(b"\0").rjust(32, b"\0")
        position += length
    return numbers


def _handler_for(server: TokenServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            self._give(server.user_of(self.headers.get("authorization", "")), query)

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers.get("content-length", "0"))).decode())
            self._give(server.user_of_identity("".join(form.get("refresh_token", []))), form)

        def _give(self, user: str | None, query: Mapping[str, list[str]]) -> None:
            if user is None or query.get("service") != [SERVICE]:
                self._answer(401, {"details": "who are you?"})
                return
            scopes = [scope for text in query.get("scope", []) for scope in text.split()]
            self._answer(200, {"token": server.grant(user, scopes), "expires_in": _SECONDS})

        def _answer(self, status: int, document: Mapping[str, Any]) -> None:  # Any: JSON
            content = json.dumps(document).encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - name of the base class
            """Print nothing."""

    return Handler
