"""GitHub's cache service in both versions, on loopback, with its blob store."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from img_core.testing.http_server import LoopbackServer

__all__ = ["TOKEN", "FakeGha"]

TOKEN = "token-of-the-job"
_TWIRP = "/twirp/github.actions.results.api.v1.CacheService/"


class FakeGha(LoopbackServer):
    """Runs inside a ``with``. *entries* maps keys to their bytes, in the order in which they were finished."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.requests: list[str] = []
        self._reserved: dict[str, bytearray] = {}  # keys that are being written
        self._ids: list[str] = []  # of v1: keys by number
        self._lock = threading.Lock()

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        with self._lock:
            status, content = self.answered(request, body)
        self.answer(request, status, content)

    def answered(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        self.requests.append(f"{request.command} {request.path}")
        parts = urlsplit(request.path)
        if parts.path.startswith("/store/"):  # the addresses are the permission: no token goes there
            assert "Authorization" not in request.headers
            return self.store(request, parts.path.removeprefix("/store/"), body)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, b'{"msg":"unauthenticated"}'
        if parts.path.startswith(_TWIRP):
            return self.twirp(parts.path.removeprefix(_TWIRP), json.loads(body))
        return self.rest(request, parts.path, parse_qs(parts.query), body)

    def store(self, request: BaseHTTPRequestHandler, key: str, body: bytes) -> tuple[int, bytes]:
        if request.command == "PUT":
            assert request.headers["x-ms-blob-type"] == "BlockBlob"
            self._reserved[key][:] = body
            return 201, b""
        if key not in self.entries:
            return 404, b"gone"
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        content = self.entries[key]
        return (206, content[int(span[1]) : int(span[2]) + 1]) if span else (200, content)

    def twirp(self, name: str, value: dict[str, Any]) -> tuple[int, bytes]:
        key = value["key"]
        answer: dict[str, Any]
        if name == "GetCacheEntryDownloadURL":
            found = self.find([key, *value["restore_keys"]], exact=not value["restore_keys"])
            answer = {"ok": False}
            if found:
                answer = {"ok": True, "matched_key": found, "signed_download_url": f"{self.address}/store/{found}"}
        elif name == "CreateCacheEntry":
            if key in self.entries or key in self._reserved:
                return 409, b'{"code":"already_exists","msg":"cache entry with the same key exists"}'
            self._reserved[key] = bytearray()
            answer = {"ok": True, "signed_upload_url": f"{self.address}/store/{key}"}
        else:
            assert len(self._reserved[key]) == int(value["size_bytes"])
            self.entries[key] = bytes(self._reserved.pop(key))
            answer = {"ok": True, "entry_id": "7"}
        return 200, json.dumps(answer).encode()

    def rest(
        self, request: BaseHTTPRequestHandler, path: str, query: dict[str, list[str]], body: bytes
    ) -> tuple[int, bytes]:
        if request.command == "GET":
            found = self.find(query["keys"], exact=False)
            if not found:
                return 204, b""
            return 200, json.dumps({"cacheKey": found, "archiveLocation": f"{self.address}/store/{found}"}).encode()
        if path.endswith("/caches"):
            key = json.loads(body)["key"]
            if key in self.entries or key in self._reserved:
                return 409, b'{"message":"exists"}'
            self._reserved[key] = bytearray()
            self._ids.append(key)
            return 201, json.dumps({"cacheId": len(self._ids)}).encode()
        key = self._ids[int(path.rpartition("/")[2]) - 1]
        if request.command == "PATCH":
            start = int(request.headers["Content-Range"].split()[1].partition("-")[0])
            self._reserved[key][start:] = body
            return 204, b""
        assert len(self._reserved[key]) == json.loads(body)["size"]
        self.entries[key] = bytes(self._reserved.pop(key))
        return 204, b""

    def find(self, keys: list[str], *, exact: bool) -> str:
        for key in keys:
            for name in reversed(list(self.entries)):
                if name == key or (not exact and name.startswith(key)):
                    return name
        return ""
