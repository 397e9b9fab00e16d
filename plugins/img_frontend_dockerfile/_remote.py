"""ADD sources that are not files of the context: HTTP URLs and git repositories."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from img_core.spec.graph import SourceOp
from img_frontend_dockerfile._source import Fault
from img_frontend_dockerfile._text import did_you_mean, quote

if TYPE_CHECKING:
    from img_frontend_dockerfile import _instructions as ins

__all__ = ["check_checksum", "git_source", "http_source", "is_git", "is_http"]

_GIT_SCHEME = re.compile(r"(?:git|ssh|git\+ssh)://")
_GIT_HOST_PATH = re.compile(r"[A-Za-z0-9_-]+@[A-Za-z0-9.-]+:")
_GIT_HTTP = re.compile(r"https?://[^?#]*\.git/?(?:[?#]|$)")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_COMMIT = re.compile(r"[0-9a-f]{1,64}")
_QUERY_KEYS = (
    "ref",
    "tag",
    "branch",
    "subdir",
    "checksum",
    "commit",
    "keep-git-dir",
    "submodules",
    "mtime",
    "fetch-by-commit",
)
_UNNAMED = "__unnamed__"


def is_git(source: str) -> bool:
    """Say whether *source* names a git repository."""
    return any(pattern.match(source) for pattern in (_GIT_SCHEME, _GIT_HOST_PATH, _GIT_HTTP))


def is_http(source: str) -> bool:
    """Say whether *source* is a URL; the scheme counts in lower case only."""
    return source.startswith(("http://", "https://"))


def git_source(source: str, instruction: ins.Copy, checksum: str) -> SourceOp:
    """Return the source of a git ADD. Raises `Fault` for query keys that nobody knows."""
    query = source.partition("#")[0].partition("?")[2]
    for key, _ in parse_qsl(query, keep_blank_values=True):
        if key not in _QUERY_KEYS:
            raise Fault(f"unexpected query {quote(key)}{did_you_mean(key, _QUERY_KEYS)}")
    options = []
    if checksum:
        options.append(("checksum", checksum))
    if instruction.keep_git_directory:
        options.append(("keep-git-dir", "true"))
    return SourceOp("git", source, tuple(options))


def http_source(source: str, checksum: str) -> tuple[SourceOp, str]:
    """Return the source of an HTTP ADD, and the name that its one file gets."""
    name = _file_name(source)
    options = [("filename", name)]
    if checksum:
        options.append(("checksum", checksum))
    return SourceOp("https", source, tuple(options)), name


def _file_name(url: str) -> str:
    try:
        path = urlsplit(url).path
    except ValueError as err:
        raise Fault(f"invalid URL {quote(url)}: {err}") from None
    name = posixpath.basename(unquote(path).rstrip("/"))
    return name if name not in ("", ".", "..") and "\0" not in name else _UNNAMED


def check_checksum(checksum: str, sources: list[str], *, inline: bool) -> None:
    """Raise `Fault` unless *checksum* fits the one source."""
    if not checksum:
        return
    if len(sources) + inline != 1:
        raise Fault("checksum can't be specified for multiple sources")
    source = sources[0] if sources else ""
    if is_git(source):
        if not _COMMIT.fullmatch(checksum):
            raise Fault("invalid checksum digest format", hint="git sources take a full or shortened commit id")
    elif not is_http(source):
        raise Fault("checksum requires HTTP(S) or Git sources")
    elif not _DIGEST.fullmatch(checksum):
        raise Fault("invalid checksum digest format", hint="write `sha256:` and 64 hex digits")
