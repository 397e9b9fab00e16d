"""Trees of git repositories, pinned to a commit before anything is fetched."""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from img_core.files import fs
from img_core.linux.programs import Programs
from img_core.net.addresses import secret_names
from img_core.net.git_urls import is_git
from img_core.spec.errors import IntegrityError, NotFoundError, RegistryError
from img_core.spec.source import PinnedTree, SourceContext, TreeSource
from img_core.spec.text import show
from img_source_git._address import Address, parse_address
from img_source_git._checkout import check_out, commit_time
from img_source_git._git import Git, said

if TYPE_CHECKING:
    from img_core.spec.graph import SourceOp
    from img_core.spec.values import Platform

__all__ = ["GitSource"]


class GitSource(TreeSource):
    """Trees of git repositories. Options: ``checksum`` (beginning of a commit id), ``keep-git-dir`` (``true``), ``mtime`` (``commit``),
    ``commit`` (what the ref was, in full: nobody is asked what it is now).

    The secrets ``GIT_AUTH_TOKEN.<origin>`` and ``GIT_AUTH_HEADER.<origin>`` log in over HTTP (`_git.login_header`), the agent
    ``default`` over ssh.
    """

    name: ClassVar[str] = "git"
    is_remote: ClassVar[bool] = True

    @classmethod
    def pinned_to(cls, op: SourceOp, pin: str) -> SourceOp:
        """Add the option ``commit``."""
        return replace(op, options=(*op.options, ("commit", pin)))

    @classmethod
    def claims(cls, address: str) -> str | None:
        """Claim what is an address of a repository for ADD, too, and docker's short form for one host."""
        return address if is_git(address) or address.startswith("github.com/") else None

    def __init__(self, context: SourceContext) -> None:
        super().__init__(context)
        self._programs = Programs(context.host, context.cancel_fd, as_user=True)
        self._commits: dict[tuple[str, str], tuple[str, str]] = {}
        self._times: dict[str, int] = {}  # of commits that were fetched
        self._locks: dict[tuple[str, str], threading.Lock] = {}
        self._guard = threading.Lock()  # of the locks

    def pin(self, op: SourceOp, platform: Platform | None) -> PinnedTree:
        """Find the commit. Raises UsageError, NotFoundError for a missing ref, RegistryError, IntegrityError for another commit.

        A commit in full is believed; that it may be the object of a tag shows when it is fetched.
        """
        address = parse_address(op.reference, dict(op.options))
        commit, tag = dict(op.options).get("commit") or address.commit, ""
        if not commit or not commit.startswith(address.checksum):
            commit, tag = self._look_up(address)
        if address.checksum and not (commit.startswith(address.checksum) or tag.startswith(address.checksum)):
            raise IntegrityError(
                f"expected checksum to match {address.checksum}, got {commit}",
                hint=f"`{show(address.ref) or 'HEAD'}` of `{address.shown}` is another commit",
            )
        by_commit = address.commit_times or self.context.reproducible
        details = {"address": address, "commit": commit, "commit-times": by_commit}
        # A commit names its content. With .git the remote is content too.
        remote = address.public_remote if address.keep_git_directory else ""
        options = f"{address.submodules:d}{by_commit:d}"
        return PinnedTree(f"git:{commit}:{address.subdir}:{options}:{remote}", details=details)

    def pin_of(self, pinned: PinnedTree) -> str:
        """Return the commit."""
        return str(pinned.details["commit"])

    def fetch(self, pinned: PinnedTree, directory: str) -> None:
        """Check the commit out. Raises RegistryError, UsageError for what is no commit, NotFoundError for a missing sub-directory."""
        address: Address = pinned.details["address"]
        self._check_online(address)
        private = self._new_directory()
        try:
            git = Git(self._programs, self.context, address, private)
            commit = pinned.details["commit"]
            self._times[commit] = check_out(git, address, commit, commit_times=pinned.details["commit-times"])
            _hand_over(git.work, address, directory)
        finally:
            fs.remove_tree(private)

    def modified(self, pinned: PinnedTree) -> int | None:
        """Return the time of the commit."""
        commit = pinned.details["commit"]
        if commit not in self._times:
            self._check_online(pinned.details["address"])
            private = self._new_directory()
            try:
                git = Git(self._programs, self.context, pinned.details["address"], private)
                self._times[commit] = commit_time(git, pinned.details["address"], commit)
            finally:
                fs.remove_tree(private)
        return self._times[commit]

    def close(self) -> None:
        """End all that git is doing."""
        self._programs.close()

    def _look_up(self, address: Address) -> tuple[str, str]:
        """Return the commit that the ref means, asked once per build, and the tag object that it is reached by, if any."""
        key = (address.remote, address.ref)
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._commits:
                self._commits[key] = self._ask(address)
            return self._commits[key]

    def _check_online(self, address: Address) -> None:
        if self.context.offline:
            raise NotFoundError(
                f"git repository `{address.shown}` is not kept here, and with `--offline` no server is asked",
                hint="a commit, in the address or in a lock file, is enough for steps that ran before",
            )

    def _ask(self, address: Address) -> tuple[str, str]:
        self._check_online(address)
        private = self._new_directory()
        try:
            git = Git(self._programs, self.context, address, private)
            done = git.run("ls-remote", "--", address.public_remote, *address.candidates(), inside=False)
        finally:
            fs.remove_tree(private)
        if done.status != 0:
            raise RegistryError(
                f"cannot read git repository `{address.shown}`: {said(done)}",
                hint=_login_hint(address),
            )
        found = _parse_refs(done.output)
        for name in address.candidates():
            if name in found:
                return found[name], found.get(name.removesuffix("^{}"), "")
        raise NotFoundError(
            f"repository does not contain ref {show(address.ref) or 'HEAD'}",
            hint=f"`{address.shown}` has no branch or tag of that name; a commit must be given in full",
        )

    def _new_directory(self) -> str:
        return os.path.join(self.context.host.run_directory, f"git-{os.urandom(8).hex()}")


def _login_hint(address: Address) -> str | None:
    if address.over_ssh:
        return "its key must be in your known_hosts, and it must accept a key of the agent"
    names = secret_names(address.public_remote)
    return f"for a private one give a token as `--secret id=GIT_AUTH_TOKEN.{names[-1]}`" if names else None


def _parse_refs(output: bytes) -> dict[str, str]:
    """Read what ``git ls-remote`` prints: ``<id> TAB <name>``."""
    refs: dict[str, str] = {}
    for line in output.decode("utf-8", "replace").splitlines():
        commit, _, name = line.partition("\t")
        if len(commit) in (40, 64) and not set(commit) - set("0123456789abcdef"):
            refs[name] = commit
    return refs


def _hand_over(work: str, address: Address, directory: str) -> None:
    """Move the checked out tree, or its sub-directory, to the empty *directory*. No link on the way is followed."""
    if not address.subdir:
        fs.rename(work, directory)
        return
    parent, _, name = address.subdir.rpartition("/")
    root = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        head = fs.open_beneath(root, os.fsencode(parent or "."), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.stat(name, dir_fd=head, follow_symlinks=False).st_mode):
                raise NotADirectoryError
            fs.rename(name, directory, source_dir_fd=head)
        finally:
            os.close(head)
    except OSError as err:
        raise NotFoundError(
            f"sub-directory `{show(address.subdir)}` of `{address.shown}`: not found",
            hint="links in its path are not followed",
        ) from err
    finally:
        os.close(root)
