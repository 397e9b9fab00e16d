"""What somebody meant who typed a word that we do not know: a near one of ours, or what does here what it does elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from img_core.forms.words import edits
from img_core.spec.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from img_core.plugins import Found, PluginInfo

__all__ = ["command_hint", "flag_hint", "nearest", "no_such_plugin"]

_LOGIN = "log in with `img login`, or name a file with `--authfile`"
_CONFIGURED = "registries are configured in files, see docs/reference/registries.md"
_PLATFORM = "`--platform OS/ARCHITECTURE[/VARIANT]`"
_EPOCH = "`--build-arg SOURCE_DATE_EPOCH=SECONDS`, for files in layers also `-o type=image,rewrite-timestamp=true`"
_CAPABILITIES = (
    "steps have docker's default capabilities; `--allow security.insecure` lets `RUN --security=insecure` have all"
)

#: Flags of docker, podman and buildah that have another name here, by command; ``""``: of every command.
_ELSEWHERE: Mapping[str, Mapping[str, str]] = {
    "": {
        "--arch": _PLATFORM,
        "--cert-dir": _CONFIGURED,
        "--creds": _LOGIN,
        "--os": _PLATFORM,
        "--registries-conf": _CONFIGURED,
        "--root": "`--state DIR`",
        "--storage-driver": "`--backend NAME`",
        "--variant": _PLATFORM,
    },
    "build": {
        "-v": "`--build-context NAME=DIR`, and `RUN --mount=type=bind,from=NAME` in the Dockerfile",
        "--all-platforms": "name each with `--platform`",
        "--cap-add": _CAPABILITIES,
        "--cap-drop": _CAPABILITIES,
        "--dns": "steps use the name servers of `/etc/resolv.conf`",
        "--env": "`ENV` in the Dockerfile, or `--build-arg`",
        "--ignorefile": "call the file `DOCKERFILE.dockerignore`, beside the Dockerfile of that name",
        "--logfile": "`2>FILE`, with `--progress plain`",
        "--manifest": "`-t NAME` with several `--platform` makes an index",
        "--pull-always": "`--pull`",
        "--rewrite-timestamp": "`-o type=image,rewrite-timestamp=true`",
        "--runtime": "`--executor runc,runtime=PATH`",
        "--source-date-epoch": "`--build-arg SOURCE_DATE_EPOCH=SECONDS`",
        "--squash-all": "`-o type=tar`, and `img import` of that archive",
        "--timestamp": _EPOCH,
        "--userns": "steps run in a user namespace anyway",
        "--volume": "`--build-context NAME=DIR`, and `RUN --mount=type=bind,from=NAME` in the Dockerfile",
    },
    "history": {"--human": "`--format json` has sizes in bytes"},
    "inspect": {
        "-f": "the configuration is printed as JSON: choose with `jq`",
        "--format": "the configuration is printed as JSON: choose with `jq`",
        "--type": "there are only images",
    },
    "import": {
        "--change": "`img build` with a Dockerfile `FROM` the image",
        "-c": "`img build` with a Dockerfile `FROM` the image",
    },
    "ls": {"--noheading": "`--format '{{.Name}}'`", "--sort": "`| sort`"},
    "prune": {"--keep-bytes": "`--keep-storage SIZE`", "--max-used-space": "`--keep-storage SIZE`"},
    "pull": {"--all-tags": "name each tag"},
    "push": {"--all-tags": "name each tag", "--digestfile": "`img ls --format '{{.Digest}}'`"},
    "rm": {"-a": "`img rm '*'`", "--all": "`img rm '*'`"},
}

_NO_CONTAINERS = "img builds images and runs no containers: `img save NAME | podman load`, or `img unpack NAME`"
#: Commands of docker, podman and buildah.
_COMMANDS_ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("create", "exec", "ps", "run", "start"), _NO_CONTAINERS),
    "bud": "`img build`",
    "from": "`img build`, with `FROM` in a Dockerfile",
    "commit": "`img build`, with the change in a Dockerfile",
    "info": "`img doctor`",
    "mount": "`img unpack`",
}


def flag_hint(flag: str, context: click.Context | None) -> str | None:
    """Return what to say about *flag*, which the command of *context* does not have; None: nothing."""
    command = context.command if context is not None else None
    name = (command.callback.__module__ if command is not None and command.callback else "").rpartition(".")[2]
    elsewhere = {**_ELSEWHERE[""], **_ELSEWHERE.get(name.rstrip("_"), {})}
    if flag in elsewhere:
        return f"use {elsewhere[flag]}" if elsewhere[flag].startswith("`") else elsewhere[flag]
    options = [item for item in command.params if isinstance(item, click.Option)] if command is not None else []
    known = [name for option in options if not option.hidden for name in option.opts if name.startswith("--")]
    return _meant(nearest(flag, [*known, "--help"]) if flag.startswith("--") else None)


def command_hint(word: str, known: Iterable[str], prefix: str) -> str | None:
    """Return what to say about the command *word*, where there are those *known* after *prefix* (``img``); None: nothing."""
    if prefix == "img" and word in _COMMANDS_ELSEWHERE:
        hint = _COMMANDS_ELSEWHERE[word]
        return f"use {hint}" if hint.startswith("`") else hint
    near = nearest(word, known)
    return _meant(f"{prefix} {near}" if near else None)


def _meant(text: str | None) -> str | None:
    return f"did you mean `{text}`?" if text else None


def no_such_plugin(word: str, known: Iterable[Found | PluginInfo]) -> NotFoundError:
    """Return the error for *word*, a name or ``kind:name`` that none of *known* has."""
    names = {f"{one.kind}:{one.name}" if ":" in word else one.name for one in known}
    hint = _meant(nearest(word, names)) or "`img plugins ls` shows what is installed"
    return NotFoundError(f'plugin "{word}": not found', hint=hint)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the word of *known* that differs least from *word*, None if all differ in more than a third of it.

    What *word* is the beginning of counts as one letter away; of equally near ones the first in the alphabet is taken.
    """
    bare = word.lstrip("-")
    limit = max(1, len(bare) // 3)
    found = sorted((_difference(bare, other.lstrip("-")), other) for other in set(known))
    return found[0][1] if found and found[0][0] <= limit else None


def _difference(word: str, other: str) -> int:
    if len(word) > 2 and other.startswith(word):
        return min(1, len(other) - len(word))
    return edits(word, other)
