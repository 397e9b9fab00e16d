"""From a commit to files."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.spec.errors import CredentialsError, RegistryError, UsageError
from img_core.spec.text import show
from img_source_git._git import said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.linux.programs import Finished
    from img_source_git._address import Address
    from img_source_git._git import Git

__all__ = ["check_out", "commit_time"]

_ALL_REFS = "+refs/*:refs/everything/*"


def check_out(git: Git, address: Address, pinned: str, *, commit_times: bool) -> int:
    """Write the files of *pinned*, a commit or an annotated tag of one, into ``git.work``.

    That is with submodules if the address wants them, without ``.git`` unless it wants that.
    With *commit_times* all have the time of the commit instead of now. Returns that time.
    Raises RegistryError, UsageError if *pinned* is no commit, CredentialsError for a submodule that needs ssh.
    """
    commit = _fetch(git, address, pinned)
    seconds = _time_of(git, address, commit)
    _insist(git, address, "checkout", "--quiet", "--force", "--detach", commit)
    submodules = address.submodules and _is_file(os.path.join(git.work, ".gitmodules"))
    if submodules:
        _fetch_submodules(git, address)
    if commit_times:
        _set_times(git.work, seconds)
    if not address.keep_git_directory:
        _drop_metadata(git.work, everywhere=submodules)
    return seconds


def commit_time(git: Git, address: Address, pinned: str) -> int:
    """Fetch *pinned* and return the time of its commit in seconds since 1970. Raises RegistryError, UsageError."""
    return _time_of(git, address, _fetch(git, address, pinned))


def _time_of(git: Git, address: Address, commit: str) -> int:
    return int(_insist(git, address, "show", "--no-patch", "--format=%ct", commit))


def _fetch(git: Git, address: Address, pinned: str) -> str:
    """Fetch the object *pinned* alone; from servers that do not give single ones, its ref; from the oldest ones everything.

    Returns the commit that it is, or that it leads to as a tag.
    """
    form = ["--object-format=sha256"] if len(pinned) == 64 else []
    _insist(git, address, "init", "--quiet", *form, "--", git.work, inside=False)
    _insist(git, address, "config", "remote.origin.url", address.public_remote)  # what relative submodules refer to
    remote = address.public_remote
    attempts = [["--depth=1", "--no-tags", "--", remote, pinned]]
    attempts += [["--depth=1", "--no-tags", "--", remote, name] for name in _names(address)]
    attempts.append(["--no-tags", "--", remote, _ALL_REFS])
    complaint = ""
    for arguments in attempts:
        done = git.run("fetch", "--quiet", "--no-recurse-submodules", *arguments)
        if done.status == 0 and git.run("cat-file", "-e", pinned).status == 0:
            return _peeled(git, address, pinned)
        complaint = complaint or said(done)
    raise RegistryError(
        f"cannot fetch commit {pinned} of `{address.shown}`: {complaint}",
        hint="the repository may have dropped it since it was looked up",
    )


def _peeled(git: Git, address: Address, pinned: str) -> str:
    """Return the commit behind *pinned*, which is here: itself, or what the tag is of. Raises UsageError for anything else."""
    found = git.run("rev-parse", "--verify", "--quiet", f"{pinned}^{{commit}}")
    if found.status == 0:
        return found.output.decode().strip()
    kind = show(git.run("cat-file", "-t", pinned).output.strip() or b"unknown object")
    raise UsageError(
        f"{pinned} of `{address.shown}` is no commit but a {kind}",
        hint="name a branch, a tag of a commit, or a commit in full",
    )


def _fetch_submodules(git: Git, address: Address) -> None:
    """Fetch what ``.gitmodules`` names: that is the repository's word and not the user's."""
    done = git.run("submodule", "--quiet", "update", "--init", "--recursive", "--depth=1", strange=True)
    if b"transport 'ssh' not allowed" in done.errors:
        raise CredentialsError(
            f"a submodule of `{address.shown}` is reached by ssh, which needs `--ssh default`",
            hint="or leave submodules out: `?submodules=false`",
        )
    _check(done, address, "submodule")


def _names(address: Address) -> Iterator[str]:
    if not address.commit:
        yield from (name for name in address.candidates() if not name.endswith("^{}"))


def _insist(git: Git, address: Address, *arguments: str, inside: bool = True) -> bytes:
    done = git.run(*arguments, inside=inside)
    _check(done, address, arguments[0])
    return done.output


def _check(done: Finished, address: Address, command: str) -> None:
    if done.status != 0:
        raise RegistryError(f"git {command} failed for `{address.shown}`: {said(done)}")


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
