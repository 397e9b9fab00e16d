"""Upload one blob: skip what is there, mount from a neighbour, continue what was cut (distribution-spec, "Pushing blobs")."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import quote

from img_core.kit.registry._retry import Failure
from img_core.kit.registry._session import location_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from img_core.kit.registry._http import Response
    from img_core.kit.registry._session import Session
    from img_core.spec.values import Descriptor

__all__ = ["Upload", "Uploaded"]

_PROGRESS = 64 * 1024  # bytes that make a cut transfer count as progress


class Uploaded(Enum):
    """How a blob came to be in the repository."""

    EXISTED = "existed"
    MOUNTED = "mounted"
    SENT = "sent"


class Upload:
    """Brings one blob into *repository*. *read* gives its bytes from an offset on, as often as it is called."""

    def __init__(
        self, session: Session, repository: str, descriptor: Descriptor, read: Callable[[int], Iterable[bytes]]
    ) -> None:
        self._session = session
        self._repository = repository
        self._descriptor = descriptor
        self._read = read
        self._base_scope = f"repository:{repository}:pull,push"
        self._scope = self._base_scope

    def run(self, mount_from: str | None) -> Uploaded:
        """Do it; raises `Failure`."""
        if self._session.repeated(self._exists):
            return Uploaded.EXISTED
        location = self._session.repeated(lambda: self._mount(mount_from)) if mount_from else self._begin()
        if location is None:
            return Uploaded.MOUNTED
        self._transfer(location)
        return Uploaded.SENT

    def _exists(self) -> bool:
        try:
            with self._send("HEAD", f"{quote(self._repository)}/blobs/{self._descriptor.digest}") as response:
                length = response.header("content-length")
                return length is None or length == str(self._descriptor.size)
        except Failure as failure:
            if failure.status == 404:
                return False
            raise

    def _mount(self, source: str) -> str | None:
        """Ask for a mount from *source*; return None if that worked, else the address of the upload that was begun instead."""
        query = f"?mount={quote(self._descriptor.digest, safe=':')}&from={quote(source, safe='')}"
        self._scope = f"{self._base_scope} repository:{source}:pull"
        try:
            with self._send("POST", f"{quote(self._repository)}/blobs/uploads/{query}") as response:
                return None if response.status == 201 else location_of(response)
        except Failure as failure:
            if failure.transient:
                raise
            self._scope = self._base_scope  # a registry may refuse the mount; then it is an ordinary upload
            return self._begin()
        finally:
            self._scope = self._base_scope

    def _begin(self) -> str:
        def once() -> str:
            with self._send("POST", f"{quote(self._repository)}/blobs/uploads/") as response:
                return location_of(response)

        return self._session.repeated(once)

    def _transfer(self, location: str) -> None:
        """Send the bytes, then the digest; after a cut ask where to go on, and start all over if nobody knows."""
        attempts, offset = self._session.attempts(), 0
        while True:
            try:
                if offset < self._descriptor.size:
                    location = self._patch(location, offset)
                    offset = self._descriptor.size
                return self._finish(location)
            except Failure as failure:
                attempts.wait_or_raise(_retryable(failure))
                position = self._position(location)
                if position is None:
                    location, position = self._begin(), (0, "")
                reached, moved_to = position
                if reached - offset >= _PROGRESS:
                    attempts.restart()
                offset, location = reached, moved_to or location

    def _patch(self, location: str, offset: int) -> str:
        """Send everything from *offset* on; return where to finish."""
        size = self._descriptor.size
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size - offset)}
        if offset:  # without it: a stream upload, which every registry knows
            headers["Content-Range"] = f"{offset}-{size - 1}"
        with self._send("PATCH", location, headers, lambda: _exactly(self._read(offset), size - offset)) as response:
            return location_of(response)

    def _finish(self, location: str) -> None:
        separator = "&" if "?" in location else "?"
        address = f"{location}{separator}digest={quote(self._descriptor.digest, safe=':')}"
        self._send("PUT", address, {"Content-Length": "0", "Content-Type": "application/octet-stream"}).close()

    def _position(self, location: str) -> tuple[int, str] | None:
        """Ask how much arrived; return the next offset and the address to go on at, or None to start all over."""
        try:
            with self._send("GET", location) as response:
                return _next_offset(response, self._descriptor.size), location_of(response)
        except Failure:
            return None

    def _send(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | None = None,
        content: Callable[[], Iterable[bytes]] | bytes = b"",
    ) -> Response:
        return self._session.send(method, self._repository, target, headers=headers, content=content, scope=self._scope)


def _retryable(failure: Failure) -> Failure:
    """Let a lost upload session (404) or a wrong offset (416) be tried again: the next step asks where we are."""
    if failure.status in {404, 416}:
        return Failure(failure.reason, transient=True, status=failure.status)
    return failure


def _next_offset(response: Response, size: int) -> int:
    first, _, last = (response.header("range") or "").removeprefix("bytes=").partition("-")
    if first != "0" or not last.isascii() or not last.isdigit() or int(last[:20]) >= size:
        raise Failure("no usable range", transient=False)
    # An upload that holds nothing is told as 0-0 by some registries, which means one byte by the letter: send all again.
    return 0 if last == "0" else int(last) + 1


def _exactly(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Give *chunks*, which must have *size* bytes together: the length was promised in a header."""
    sent = 0
    for chunk in chunks:
        sent += len(chunk)
        if sent > size:
            break
        yield chunk
    if sent != size:
        raise Failure("the blob to upload does not have the size it should have", transient=False)
