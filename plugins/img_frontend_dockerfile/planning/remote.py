"""ADD sources that are not files of the context: HTTP URLs and git repositories."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from img_core.net.git_urls import QUERY_KEYS, is_git, is_web
from img_core.spec.graph import SourceOp
from img_frontend_dockerfile.syntax.source import Fault
from img_frontend_dockerfile.syntax.text import did_you_mean, quote

if TYPE_CHECKING:
    from img_frontend_dockerfile.syntax import instructions as ins

__all__ = ["check_checksum", "git_source", "http_source"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_COMMIT = re.compile(r"[0-9a-f]{1,64}")
_UNNAMED = "__unnamed__"


def git_source(source: str, instruction: ins.CopyOrAdd, checksum: str, *, dated: bool) -> SourceOp:
    """Return the source of a git ADD; in a *dated* build (`SOURCE_DATE_EPOCH`) its files have the time of the commit.

    Raises `Fault` for query keys that nobody knows.
    """
    from urllib.parse import parse_qsl  # 4 ms; few files add from the web

    query = source.partition("#")[0].partition("?")[2]
    for key, _ in parse_qsl(query, keep_blank_values=True):
        if key not in QUERY_KEYS:
            raise Fault(f"unexpected query {quote(key)}{did_you_mean(key, QUERY_KEYS)}")
    options = []
    if checksum:
        options.append(("checksum", checksum))
    if instruction.keep_git_directory:
        options.append(("keep-git-dir", "true"))
    if dated:
        options.append(("mtime", "commit"))
    return SourceOp("git", source, tuple(options))


def http_source(source: str, checksum: str) -> tuple[SourceOp, str]:
    """Return the source of an HTTP ADD, and the name that its one file gets."""
    name = _file_name(source)
    options = [("filename", name)]
    if checksum:
        options.append(("checksum", checksum))
    return SourceOp("https", source, tuple(options)), name


def _file_name(url: str) -> str:
    from urllib.parse import unquote, urlsplit

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
    elif not is_web(source):
        raise Fault("checksum requires HTTP(S) or Git sources")
    elif not _DIGEST.fullmatch(checksum):
        raise Fault("invalid checksum digest format", hint="write `sha256:` and 64 hex digits")
