"""From a commit to files."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from img_core.kit import fs
from img_core.kit.text import show
from img_core.spec.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_source_git._address import Address
    from img_source_git._git import Git

__all__ = ["check_out", "commit_time"]

_ALL_REFS = "+refs/*:refs/everything/*"


def check_out(git: Git, address: Address, commit: str, *, commit_times: bool) -> int:
    """Write the files of *commit* into ``git.work``: with submodules if the address wants them, without ``.git`` unless it wants that.

    With *commit_times* all have the time of the commit instead of now. Returns that time. Raises RegistryError.
    """
    seconds = commit_time(git, address, commit)
    _insist(git, address, "checkout", "--quiet", "--force", "--detach", commit)
    submodules = address.submodules and _is_file(os.path.join(git.work, ".gitmodules"))
    if submodules:
        _insist(git, address, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
    if commit_times:
        _set_times(git.work, seconds)
    if not address.keep_git_directory:
        _drop_metadata(git.work, everywhere=submodules)
    return seconds


def commit_time(git: Git, address: Address, commit: str) -> int:
    """Fetch *commit* and return its time in seconds since 1970. Raises RegistryError."""
    _fetch(git, address, commit)
    return int(_insist(git, address, "show", "--no-patch", "--format=%ct", commit))


def _fetch(git: Git, address: Address, commit: str) -> None:
    """Fetch *commit* alone; from servers that do not give single commits, its ref; from the oldest ones everything."""
    form = ["--object-format=sha256"] if len(commit) == 64 else []
    _insist(git, address, "init", "--quiet", *form, "--", git.work, inside=False)
    _insist(git, address, "config", "remote.origin.url", address.public_remote)  # what relative submodules refer to
    remote = address.public_remote
    attempts = [["--depth=1", "--no-tags", "--", remote, commit]]
    attempts += [["--depth=1", "--no-tags", "--", remote, name] for name in _names(address)]
    attempts.append(["--no-tags", "--", remote, _ALL_REFS])
    complaint = b""
    for arguments in attempts:
        done = git.run("fetch", "--quiet", "--no-recurse-submodules", *arguments)
        if done.status == 0 and git.run("cat-file", "-e", f"{commit}^{{commit}}").status == 0:
            return
        complaint = complaint or done.complaint
    raise RegistryError(
        f"cannot fetch commit {commit} of `{address.shown}`: {show(complaint.removeprefix(b'fatal: '))}",
        hint="the repository may have dropped it since it was looked up",
    )


def _names(address: Address) -> Iterator[str]:
    if not address.commit:
        yield from (name for name in address.candidates() if not name.endswith("^{}"))


def _insist(git: Git, address: Address, *arguments: str, inside: bool = True) -> bytes:
    done = git.run(*arguments, inside=inside)
    if done.status != 0:
        said = show(done.complaint.removeprefix(b"fatal: "))
        raise RegistryError(f"git {arguments[0]} failed for `{address.shown}`: {said}")
    return done.output


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _drop_metadata(work: str, *, everywhere: bool) -> None:
    """Remove ``.git``; *everywhere* also those of submodules: no tree of git can hold that name itself."""
    fs.remove_tree(os.path.join(work, ".git"))
    if not everywhere:
        return
    for directory, names, files, descriptor in os.fwalk(work, follow_symlinks=False):
        if ".git" in files:
            fs.unlink(".git", dir_fd=descriptor)
        if ".git" in names:
            names.remove(".git")
            fs.remove_tree(os.path.join(directory, ".git"))


def _set_times(work: str, seconds: int) -> None:
    for _, directories, files, descriptor in os.fwalk(work, topdown=False, follow_symlinks=False):
        for name in (*directories, *files):
            os.utime(name, (seconds, seconds), dir_fd=descriptor, follow_symlinks=False)
    os.utime(work, (seconds, seconds))
