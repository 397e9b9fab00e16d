"""The address of a git tree: ``<remote>[?query][#ref[:subdir]]`` (docs/reference/contexts-and-sources.md)."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from img_core.forms.words import truth
from img_core.net.git_urls import QUERY_KEYS
from img_core.spec.errors import UsageError
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Address", "parse_address"]

_SCHEMES = ("http", "https", "git", "ssh")
_HOST_PATH = re.compile(
    r"(?:[A-Za-z0-9_.-]+@)?[A-Za-z0-9][A-Za-z0-9.-]*:[^:/\\-].*|(?:[A-Za-z0-9_.-]+@)[A-Za-z0-9][A-Za-z0-9.-]*:/.*"
)
_FLAGS = ("submodules", "keep-git-dir", "fetch-by-commit")  #: may stand without a value
_FULL_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHORT_COMMIT = re.compile(r"[0-9a-f]{4,64}")
#: What git-check-ref-format(1) forbids, and what would be a pattern or a refspec.
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/.]|/$|/\.|\.lock(?:/|$)|\.$|^@$")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a tree is. *remote* is what git understands, with user and password if they were given; never show it.

    *ref* is empty for the default branch; *checksum* is the beginning of a commit id. *subdir* is relative and clean, empty for all.
    """

    remote: str = field(repr=False)
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_directory: bool = False
    submodules: bool = True
    commit_times: bool = False

    @property
    def commit(self) -> str:
        """The commit, if *ref* is one, in full."""
        return self.ref if _FULL_COMMIT.fullmatch(self.ref) else ""

    @property
    def shown(self) -> str:
        """The remote for people: ``***`` for user and password."""
        return show(self.remote)

    @property
    def public_remote(self) -> str:
        """The remote without user and password, as it may stand in a file."""
        parts = urlsplit(self.remote)
        if parts.scheme not in ("http", "https", "git"):
            return self.remote
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    @property
    def over_ssh(self) -> bool:
        """Whether ssh is needed to get there."""
        return "://" not in self.remote or urlsplit(self.remote).scheme == "ssh"

    @property
    def host(self) -> str:
        """The host without port, for HTTP only; empty otherwise."""
        parts = urlsplit(self.remote)
        return parts.hostname or "" if parts.scheme in ("http", "https") else ""

    def candidates(self) -> tuple[str, ...]:
        """Return the full names that *ref* may mean, the one that wins first: git-checkout(1) prefers branches."""
        if not self.ref:
            return ("HEAD",)
        if self.ref.startswith("refs/"):
            return (f"{self.ref}^{{}}", self.ref)
        tag = f"refs/tags/{self.ref}"
        return (f"refs/heads/{self.ref}", f"{tag}^{{}}", tag, f"refs/{self.ref}")


def parse_address(text: str, options: Mapping[str, str]) -> Address:
    """Parse the address *text*; *options* are those of `GitSource`. Raises UsageError."""
    before, _, fragment = text.partition("#")
    remote, _, query = before.partition("?")
    remote = remote.removeprefix("git+")
    if remote.startswith("github.com/"):
        remote = f"https://{remote}"
    _check_remote(remote)
    ref, _, subdir = fragment.partition(":")
    values = _merged({"ref": unquote(ref), "subdir": unquote(subdir)}, _query(query))
    _boolean(values, "fetch-by-commit", default=False)  # commits are always asked for by their ids
    checksum = _one(values, "checksum", "commit")
    given = options.get("checksum", "")
    if given and checksum and not (given.startswith(checksum) or checksum.startswith(given)):
        raise UsageError(f"expected checksum to match {show(checksum)}, got {show(given)}")
    checksum = max(given, checksum, key=len)
    if checksum and not _SHORT_COMMIT.fullmatch(checksum):
        raise UsageError(f"invalid commit id `{show(checksum)}`", hint="a full or shortened commit id, in lower case")
    return Address(
        remote,
        _ref(values, checksum),
        _subdir(values.get("subdir", "")),
        checksum,
        keep_git_directory=_boolean(values, "keep-git-dir", default=options.get("keep-git-dir") == "true"),
        submodules=_boolean(values, "submodules", default=True),
        commit_times=_commit_times(values.get("mtime") or options.get("mtime", "checkout")),
    )


def _check_remote(remote: str) -> None:
    try:
        parts = urlsplit(remote)
        fine = parts.scheme in _SCHEMES and bool(parts.hostname) and not (parts.hostname or "").startswith("-")
    except ValueError:
        fine = False
    fine = fine or ("://" not in remote and _HOST_PATH.fullmatch(remote) is not None)
    if fine and "://" in remote and parts.scheme == "ssh" and parts.password is not None:
        raise UsageError(
            f"the ssh address `{show(remote)}` has a password", hint="ssh takes none; keys are given by `--ssh`"
        )
    if not fine or not remote.isprintable() or " " in remote:
        raise UsageError(
            f"`{show(remote)}` is not the address of a git repository",
            hint=f"known: {', '.join(f'{scheme}://' for scheme in _SCHEMES)} and user@host:path",
        )


def _query(query: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in QUERY_KEYS:
            raise UsageError(f'unexpected query "{show(key)}"', hint=f"known: {', '.join(QUERY_KEYS)}")
        if key in values:
            raise UsageError(f'query "{key}" has multiple values')
        if not value and key not in _FLAGS:
            raise UsageError(f'query "{key}" has no value')
        values[key] = value
    return values


def _merged(fragment: Mapping[str, str], query: Mapping[str, str]) -> dict[str, str]:
    for name, value in fragment.items():
        if value and query.get(name, value) != value:
            raise UsageError(f"{name} conflicts: `{show(value)}` and `{show(query[name])}`")
    return {**fragment, **query}


def _one(values: Mapping[str, str], *names: str) -> str:
    found = {values[name] for name in names if values.get(name)}
    if len(found) > 1:
        raise UsageError(f"conflicting values of {' and '.join(f'`{name}`' for name in names)}")
    return found.pop() if found else ""


def _ref(values: Mapping[str, str], checksum: str) -> str:
    written = (
        values.get("ref", ""),
        _full_name("refs/tags/", values, "tag"),
        _full_name("refs/heads/", values, "branch"),
    )
    given = list(dict.fromkeys(filter(None, written)))
    if len(given) > 1:
        raise UsageError("only one of ref, tag and branch can be given")
    if not given:
        return checksum if _FULL_COMMIT.fullmatch(checksum) else ""
    if _BAD_REF.search(given[0]):
        raise UsageError(f"`{show(given[0])}` is not the name of a branch, tag or commit")
    return given[0]


def _full_name(prefix: str, values: Mapping[str, str], key: str) -> str:
    return prefix + values[key].removeprefix(prefix) if values.get(key) else ""


def _subdir(text: str) -> str:
    clean = posixpath.normpath("/" + text.lstrip("/")).lstrip("/")
    if "\0" in clean or clean == ".git" or clean.startswith(".git/"):
        raise UsageError(f"invalid sub-directory `{show(text)}`")
    return clean


def _boolean(values: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = values.get(name)
    if text is None:
        return default
    found = truth(text or "true")
    if found is None:
        raise UsageError(f"invalid value `{show(text)}` of {name}", hint="`true` or `false`")
    return found


def _commit_times(text: str) -> bool:
    if text not in ("checkout", "commit"):
        raise UsageError(f"invalid value `{show(text)}` of mtime", hint="`checkout` or `commit`")
    return text == "commit"
