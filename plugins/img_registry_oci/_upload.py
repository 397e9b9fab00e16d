"""Upload one blob: skip what is there, mount from a neighbour, continue what was cut (distribution-spec, "Pushing blobs")."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from img_core.images.digests import CANONICAL
from img_core.net.redirects import location_of
from img_core.net.retry import Failure
from img_core.spec.registry import Uploaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from img_core.net.transport import Response
    from img_core.spec.values import Descriptor
    from img_registry_oci._session import RegistrySession

__all__ = ["Upload"]

_PROGRESS = 64 * 1024  # bytes that make a cut transfer count as progress
_OCTETS = {"Content-Type": "application/octet-stream"}
_TOO_LARGE = 413  # what a proxy says that allows only so many bytes per request
_LARGEST_PART, _SMALLEST_PART = 64 << 20, 64 << 10
_AT_ONCE = 64 << 10  #: bytes that go with the digest, in one request: nobody has to go on in the middle of them


class Upload:
    """Brings one blob into *repository*. *read* gives its bytes from an offset on, as often as it is called."""

    def __init__(
        self, session: RegistrySession, repository: str, descriptor: Descriptor, read: Callable[[int], Iterable[bytes]]
    ) -> None:
        self._session = session
        self._repository = repository
        self._descriptor = descriptor
        self._read = read
        self._base_scope = f"repository:{repository}:pull,push"
        self._scope = self._base_scope
        self._part = descriptor.size  #: most bytes for one request
        self._smallest_part = _SMALLEST_PART
        self._content: bytes | None = None
        self._at_once = descriptor.size <= _AT_ONCE  #: until that did not work

    def run(self, source: str | None) -> Uploaded:
        """Do it; *source* is a repository of the registry that should have the blob, perhaps our own. Raises `Failure`."""
        begun = None
        if source and source != self._repository:  # one request is enough, whether we have it already or not
            begun = self._session.repeated(lambda: self._mount(source))
            if begun is None:
                return Uploaded.MOUNTED
        elif not source and self._at_once:  # the same request of our own repository: is it there, or where shall it go?
            begun = self._session.repeated(lambda: self._mount(self._repository))
            if begun is None:
                return Uploaded.EXISTED
            self._transfer(begun)  # perhaps for nothing, where nobody mounts; that is cheaper than to ask
            return Uploaded.SENT
        if self._session.repeated(self._exists):
            return Uploaded.EXISTED
        self._transfer(begun or self._begin())
        return Uploaded.SENT

    def _whole(self) -> bytes:
        """Return all of a small blob, read once however often it is sent: it may come from another registry."""
        if self._content is None:
            self._content = b"".join(_exactly(self._read(0), size=self._descriptor.size, whole=True))
        return self._content

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
        if source != self._repository:
            self._scope = f"{self._base_scope} repository:{source}:pull"
        try:
            with self._send("POST", f"{quote(self._repository)}/blobs/uploads/{query}") as response:
                if response.status != 201:
                    return location_of(response)
            # docker-registry mounts a blob under its sha256 digest only, whatever digest it was asked for.
            canonical = self._descriptor.digest.startswith(f"{CANONICAL}:")
            return None if canonical or self._exists() else self._begin()
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
                least = response.header("oci-chunk-min-length") or ""
                if least.isascii() and least.isdigit():
                    self._smallest_part = max(_SMALLEST_PART, int(least[:12]))
                return location_of(response)

        return self._session.repeated(once)

    def _transfer(self, location: str) -> None:
        """Send the bytes, then the digest; after a cut ask where to go on, and start all over if nobody knows."""
        attempts, offset, furthest = self._session.attempts(), 0, 0
        while True:
            try:
                if self._at_once:
                    self._at_once = False
                    return self._finish(location, self._whole())
                while offset < self._descriptor.size:
                    location = self._patch(location, offset)
                    offset = min(offset + self._part, self._descriptor.size)
                    if offset - furthest >= _PROGRESS:  # further than ever: starting all over is no progress
                        attempts.restart()
                        furthest = offset
                return self._finish(location)
            except Failure as failure:
                if not self._with_smaller_parts(failure):
                    attempts.wait_or_raise(_retryable(failure))
                position = self._position(location)
                if position is None:
                    location, position = self._begin(), (0, "")
                reached, moved_to = position
                if reached - furthest >= _PROGRESS:
                    attempts.restart()
                    furthest = reached
                offset, location = reached, moved_to or location

    def _with_smaller_parts(self, failure: Failure) -> bool:
        """After a request that was too large: tell whether it can be tried with half of it."""
        smaller = min(self._part // 2, _LARGEST_PART)
        if failure.status != _TOO_LARGE or smaller < self._smallest_part:
            return False
        self._part = smaller
        return True

    def _patch(self, location: str, offset: int) -> str:
        """Send a part from *offset* on, mostly all there is; return where to go on."""
        whole = self._descriptor.size - offset
        size = min(whole, self._part)
        headers = {**_OCTETS, "Content-Length": str(size)}
        if offset or size < whole:  # without it: a stream upload, which every registry knows
            headers["Content-Range"] = f"{offset}-{offset + size - 1}"
        content = partial(_exactly, whole=size == whole, size=size)
        with self._send("PATCH", location, headers, lambda: content(self._read(offset))) as response:
            return location_of(response)

    def _finish(self, location: str, content: bytes = b"") -> None:
        separator = "&" if "?" in location else "?"
        address = f"{location}{separator}digest={quote(self._descriptor.digest, safe=':')}"
        self._send("PUT", address, _OCTETS, content).close()

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


def _exactly(chunks: Iterable[bytes], *, size: int, whole: bool) -> Iterator[bytes]:
    """Give *size* bytes of *chunks*, which must not have fewer, nor more if they are the *whole*: the length was promised in a header."""
    sent = 0
    for chunk in chunks:
        sent += len(chunk)
        if sent < size or (sent == size and whole):
            yield chunk
        elif not whole:
            yield chunk[: len(chunk) - (sent - size)]
            return
        else:
            break
    if sent != size:
        raise Failure("the blob to upload does not have the size it should have", transient=False)
