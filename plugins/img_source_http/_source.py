"""ADD of URLs, and contexts that are URLs (docs/reference/dockerfile-cases.md, AD11 to AD19).

What a URL means is its content: each build asks the server once, on condition that something changed, and nothing is fetched that is
known. With a ``sha256`` checksum the server is not even asked before the bytes are needed.
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, ClassVar, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from img_core.archives.contexts import BLOCK, is_archive, newest_member, unpack
from img_core.files import fs
from img_core.net.addresses import secret_names
from img_core.net.git_urls import is_git, is_web
from img_core.net.hosts import origin
from img_core.net.web import Web, origin_text, shown_url
from img_core.spec.errors import ImgError, IntegrityError, NotFoundError, UsageError
from img_core.spec.source import PinnedTree, SourceContext, TreeSource
from img_source_http._memo import Memo, Memos

if TYPE_CHECKING:
    from img_core.net.web import Response
    from img_core.spec.graph import SourceOp
    from img_core.spec.values import Platform

__all__ = ["WebSource"]

_LIMIT: Final = 64 << 30  #: bytes of one file; a server that never stops sending must not fill the disk
_MODE: Final = 0o600  #: what BuildKit gives to files from the web
_UNNAMED: Final = "__unnamed__"
_ALGORITHM: Final = "sha256"
_TRUST: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")  #: variables that replace the system's store of certificates


class WebSource(TreeSource):
    """Files from web servers: a tree with one file, named by option ``filename``.

    Without that option the URL is a build context: an archive is unpacked, anything else is one file. Option ``checksum`` is
    ``<algorithm>:<hex>``. The secrets ``HTTP_AUTH_TOKEN_<origin>`` and ``HTTP_AUTH_HEADER_<origin>`` (`kit.addresses.secret_names`) log
    in there.
    """

    name: ClassVar[str] = "https"
    names_files: ClassVar[bool] = True
    is_remote: ClassVar[bool] = True

    @classmethod
    def pinned_to(cls, op: SourceOp, pin: str) -> SourceOp:
        """Add the option ``checksum``, unless there is one."""
        own = dict(op.options).get("checksum", "")
        if own.startswith(f"{_ALGORITHM}:") and own != pin:
            raise _mismatch(op.reference, own, pin)
        return op if own else replace(op, options=(*op.options, ("checksum", pin)))

    @classmethod
    def claims(cls, address: str) -> str | None:
        """Claim addresses of the web that are no repositories."""
        return address if is_web(address) and not is_git(address) else None

    def __init__(self, context: SourceContext) -> None:
        super().__init__(context)
        environment = context.host.environment
        self._web = Web(environment=environment)
        trust = [environment.get(name, "") for name in _TRUST]
        self._memos = Memos(os.path.join(context.host.state_directory, "sources", "https"), trust)
        self._files: dict[str, tuple[str, str]] = {}  # downloads of this build and their ``Last-Modified``, by digest
        self._pinned: dict[tuple[str, str], Memo] = {}  # what URLs mean in this build, by URL and algorithm
        self._locks: dict[str, threading.Lock] = {}  # by URL or digest: nothing is asked or fetched twice
        self._guard = threading.Lock()  # of these locks

    def pin(self, op: SourceOp, platform: Platform | None) -> PinnedTree:
        """Ask the server whether the content changed. Raises RegistryError, IntegrityError for another checksum, UsageError."""
        if origin(op.reference) is None:
            raise UsageError(
                f"`{shown_url(op.reference)}` is not an HTTP address", hint="expected `https://HOST[:PORT]/PATH`"
            )
        options = dict(op.options)
        checksum = options.get("checksum", "")
        memo = self._promised(op.reference, checksum) if checksum.startswith(f"{_ALGORITHM}:") else None
        if memo is None:
            algorithm = checksum.partition(":")[0] or _ALGORITHM
            memo = self._current(op.reference, algorithm)
            if checksum and memo.digests[algorithm] != checksum:
                raise _mismatch(op.reference, memo.digests[algorithm], checksum)
        digest = memo.digests[_ALGORITHM]
        name = options.get("filename", "")
        if name != os.path.basename(name) or name in (".", ".."):
            raise ImgError(f"`{fs.show(name)}` is no name of a file")
        details = {"url": op.reference, "digest": digest, "name": name, "last-modified": memo.last_modified}
        return PinnedTree(f"https:{digest}/{name or '.'}@{memo.last_modified}", details=details)

    def pin_of(self, pinned: PinnedTree) -> str:
        """Return the digest of the file."""
        return str(pinned.details["digest"])

    def fetch(self, pinned: PinnedTree, directory: str) -> None:
        """Write the file. Raises RegistryError, IntegrityError if the content is not what was pinned."""
        path, modified = self._file(pinned)
        name = str(pinned.details["name"])
        if name or not _holds_archive(path):
            _place(path, os.path.join(directory, name or _name_of(str(pinned.details["url"]))), _seconds(modified))
        else:
            with open(path, "rb") as stream:
                unpack(stream, directory)

    def modified(self, pinned: PinnedTree) -> int | None:
        """Return what the server calls the last modification, else the time of the newest member of an archive."""
        modified = str(pinned.details["last-modified"])
        if not modified:
            path, modified = self._file(pinned)
            if not modified and _holds_archive(path):
                with open(path, "rb") as stream:
                    return newest_member(stream)
        return _seconds(modified) or None

    def _file(self, pinned: PinnedTree) -> tuple[str, str]:
        """Return the path of the downloaded file, and its ``Last-Modified``."""
        url, digest, modified = (str(pinned.details[key]) for key in ("url", "digest", "last-modified"))
        with self._alone(digest):
            if digest not in self._files:
                path, memo = self._download(url, _ALGORITHM)
                if memo.digests[_ALGORITHM] != digest:
                    fs.unlink(path)
                    raise _mismatch(url, memo.digests[_ALGORITHM], digest)
                self._files[digest] = path, memo.last_modified
        path, told = self._files[digest]
        return path, modified or told

    def close(self) -> None:
        """Close all connections and end all waiting."""
        self._web.close()

    # ------------------------------------------------------------------------------------------------------ requests

    def _promised(self, url: str, checksum: str) -> Memo:
        """Return what *url* holds if it keeps its promise: what was noted of that content counts, so that nothing is fetched again."""
        known = self._memos.get(*self._login(url))
        return known if known and known.digests.get(_ALGORITHM) == checksum else Memo(digests={_ALGORITHM: checksum})

    def _current(self, url: str, algorithm: str) -> Memo:
        """Return what *url* holds now, with the digests that are needed."""
        with self._alone(url):
            if (url, algorithm) not in self._pinned:
                self._pinned[url, algorithm] = self._ask(url, algorithm)
            return self._pinned[url, algorithm]

    def _alone(self, key: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(key, threading.Lock())

    def _ask(self, url: str, algorithm: str) -> Memo:
        address, authorization = self._login(url)
        known = self._memos.get(address, authorization)
        if known is None or not {_ALGORITHM, algorithm} <= known.digests.keys():
            known = Memo()
        elif self.context.offline:
            return known
        path, memo = self._download(url, algorithm, known)
        if path:
            self._files[memo.digests[_ALGORITHM]] = path, memo.last_modified
            self._memos.put(address, authorization, memo)
        return memo

    def _download(self, url: str, algorithm: str, known: Memo | None = None) -> tuple[str, Memo]:
        """Return the path of the downloaded file and what it is; an empty path and *known* if that is still true.

        Raises NotFoundError when nothing may be downloaded.
        """
        if self.context.offline:
            raise NotFoundError(f"`{shown_url(url)}` is not kept here, and with `--offline` no server is asked")

        def use(response: Response) -> tuple[str, Memo]:
            if response.status == 304:
                assert known is not None  # nobody else is asked on a condition
                return "", known
            return self._receive(response, algorithm)

        address, authorization = self._login(url)
        try:
            return self._web.get(
                address, use, conditions=known.conditions() if known else None, authorization=authorization
            )
        except OSError as err:
            raise fs.disk_error(err, self.context.host.run_directory) from err

    def _receive(self, response: Response, algorithm: str) -> tuple[str, Memo]:
        """Write the body to a file of our own; hash it on the way."""
        hashers = {name: hashlib.new(name) for name in {_ALGORITHM, algorithm}}
        path = os.path.join(self.context.host.run_directory, f"download-{os.urandom(8).hex()}")
        text, length = f"downloading {shown_url(response.url)}", response.header("content-length") or ""
        total = int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0
        with fs.AtomicFile(os.path.dirname(path), mode=_MODE) as file:
            for chunk in response.chunks():
                self.context.check()
                if file.size + len(chunk) > _LIMIT:
                    raise ImgError(f"`{shown_url(response.url)}` holds more than {_LIMIT >> 30} GiB")
                file.write(chunk)
                for hasher in hashers.values():
                    hasher.update(chunk)
                self.context.status(text, file.size, total)
            file.commit(path)
            self.context.status(text, file.size, file.size, "done")
        digests = {name: f"{name}:{hasher.hexdigest()}" for name, hasher in hashers.items()}
        validators = response.header("etag") or "", response.header("last-modified") or ""
        return path, Memo(*validators, origin_text(response.url), digests)

    def _login(self, url: str) -> tuple[str, str]:
        """Return *url* without user and password, and the value of the header that they or a secret become."""
        parts = urlsplit(url)
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            netloc = parts.netloc.rpartition("@")[2]
            return urlunsplit(parts._replace(netloc=netloc)), "Basic " + base64.b64encode(user).decode()
        for name in secret_names(url):
            if (token := self.context.secrets(f"HTTP_AUTH_TOKEN_{name}")) is not None:
                return url, f"Bearer {_header_text(token)}"
            if (header := self.context.secrets(f"HTTP_AUTH_HEADER_{name}")) is not None:
                return url, _header_text(header)
        return url, ""


def _header_text(secret: bytes) -> str:
    """Return a secret as the value of a header; a file often ends with a newline."""
    return secret.strip().decode("latin-1").replace("\r", "").replace("\n", "")


def _mismatch(url: str, got: str, wanted: str) -> IntegrityError:
    return IntegrityError(
        f"digest mismatch {got}: {wanted}", hint=f"`{shown_url(url)}` does not hold what was expected"
    )


def _seconds(modified: str) -> int:
    """Return ``Last-Modified`` as seconds since 1970, 0 if there is none or it makes no sense."""
    try:
        return max(0, int(parsedate_to_datetime(modified).timestamp()))
    except (ValueError, TypeError, OverflowError):
        return 0


def _name_of(url: str) -> str:
    name = os.path.basename(unquote(urlsplit(url).path).rstrip("/"))
    return name if name not in ("", ".", "..") and "\0" not in name else _UNNAMED


def _holds_archive(path: str) -> bool:
    with open(path, "rb") as stream:
        return is_archive(stream.read(BLOCK))


def _place(source: str, target: str, seconds: int) -> None:
    """Copy a download to its place."""
    with (
        fs.disk_errors(target),
        open(source, "rb") as stream,
        fs.AtomicFile(os.path.dirname(target), mode=_MODE) as file,
    ):
        os.fchmod(file.fileno(), _MODE)
        fs.copy_file(stream.fileno(), file.fileno(), os.fstat(stream.fileno()).st_size)
        os.utime(file.fileno(), (seconds, seconds))
        file.commit(target)
