"""A service that speaks the protocol of S3, on loopback, with path-style addresses; it checks signatures on its own."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from email.utils import formatdate
from html import escape
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, quote, unquote, urlsplit

from img_core.testing.http_server import LoopbackServer

__all__ = ["KEYS", "FakeS3"]

KEYS = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
_PAGE = 7  # objects of one page of a list


class FakeS3(LoopbackServer):
    """Runs inside a ``with``. *objects* maps bucket/key to content and the time of the last change."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.requests: list[str] = []
        self.failures: list[tuple[re.Pattern[str], int]] = []

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        line = f"{request.command} {unquote(request.path)}"
        self.requests.append(line)
        for pattern, status in self.failures:
            if pattern.search(line):
                return self.send(request, status, b"<Error><Code>AsTold</Code></Error>")
        if problem := self.refusal(request, body):
            return self.send(request, 403, f"<Error><Code>{problem}</Code></Error>".encode())
        parts = urlsplit(request.path)
        key = unquote(parts.path).lstrip("/")
        if request.command == "GET" and "list-type" in parts.query:
            return self.list(request, key, parse_qs(parts.query))
        if request.command == "PUT":
            source = request.headers.get("x-amz-copy-source")
            content = self.objects[unquote(source).lstrip("/")][0] if source else body
            self.objects[key] = (content, time.time())
            return self.send(request, 200)
        if request.command == "DELETE":
            self.objects.pop(key, None)
            return self.send(request, 204)
        if key not in self.objects:
            return self.send(request, 404, b"<Error><Code>NoSuchKey</Code></Error>")
        content, changed = self.objects[key]
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        if span:
            return self.send(request, 206, content[int(span[1]) : int(span[2]) + 1], changed, len(content))
        return self.send(request, 200, content, changed)

    def list(self, request: BaseHTTPRequestHandler, bucket: str, query: dict[str, list[str]]) -> None:
        start = query.get("continuation-token", [""])[0]
        names = [name.removeprefix(bucket) for name in sorted(self.objects)]
        names = [name for name in names if name.startswith(query["prefix"][0]) and name > start]
        page, rest = names[:_PAGE], names[_PAGE:]
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if rest else ""
        keys = "".join(f"<Contents><Key>{escape(name)}</Key></Contents>" for name in page)
        self.send(request, 200, f"<ListBucketResult>{keys}{token}</ListBucketResult>".encode())

    def send(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        content: bytes = b"",
        changed: float | None = None,
        total: int | None = None,
    ) -> None:
        headers = {} if total is None else {"Content-Range": f"bytes */{total}"}
        if changed is not None:
            headers["Last-Modified"] = formatdate(changed, usegmt=True)
        self.answer(request, status, content, headers)

    def refusal(self, request: BaseHTTPRequestHandler, body: bytes) -> str:
        """Return why the signature is wrong; empty if it is right. Written from the specification, not from the plugin."""
        header = request.headers.get("Authorization", "")
        match = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, SignedHeaders=(\S+), Signature=(\w{64})",
            header,
        )
        if match is None or match[1] != KEYS[0]:
            return "AccessDenied"
        if request.headers["x-amz-content-sha256"] != hashlib.sha256(body).hexdigest():
            return "XAmzContentSHA256Mismatch"
        parts = urlsplit(request.path)
        query = sorted(
            (quote(unquote(name), safe="-_.~"), quote(unquote(value), safe="-_.~"))
            for name, _, value in (item.partition("=") for item in parts.query.split("&") if item)
        )
        lines = [request.command, parts.path, "&".join(f"{name}={value}" for name, value in query)]
        lines += [f"{name}:{request.headers[name].strip()}" for name in match[4].split(";")]
        lines += ["", match[4], request.headers["x-amz-content-sha256"]]
        hashed = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        scope = f"{match[2]}/{match[3]}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{request.headers['x-amz-date']}\n{scope}\n{hashed}"
        key = b"AWS4" + KEYS[1].encode()
        for word in scope.split("/"):
            key = hmac.new(key, word.encode(), "sha256").digest()
        wanted = hmac.new(key, text.encode(), "sha256").hexdigest()
        return "" if hmac.compare_digest(wanted, match[5]) else "SignatureDoesNotMatch"
