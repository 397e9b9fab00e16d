"""Where kaniko's build context is, in the words of ``img build`` (kaniko's README, "kaniko Build Contexts")."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

from img_core.forms.words import key_values, truth
from img_core.spec.errors import UsageError
from img_core.spec.text import show

__all__ = ["Context", "context_of", "git_login"]

_DEFAULT: Final = "/workspace/"
_STDIN: Final = "stdin"
#: The secret that logs in where the context of the command line is, and the variable that carries it to ``img build``.
_LOGIN: Final = "GIT_AUTH_HEADER"
LOGIN_VARIABLE: Final = "IMG_KANIKO_GIT_AUTH"


@dataclass(frozen=True, slots=True)
class Context:
    """The PATH of ``img build`` (*path*) with the *flags* it needs. *input* is the file to be its standard input, None: ours.

    *directory* is the context where it is one, for a Dockerfile that is looked up in it.
    """

    path: str
    flags: tuple[str, ...] = ()
    input: str | None = None
    directory: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def context_of(source: str, sub_path: str, git: Mapping[str, str], environment: Mapping[str, str]) -> Context:
    """Return the context that *source* names, or the directory *sub_path* of it; *git* are the words of ``--git``. Raises UsageError."""
    scheme, separator, rest = source.partition("://")
    if not separator:
        return _directory(source or _DEFAULT, sub_path)
    if scheme == "dir":
        return _directory(rest, sub_path)
    if scheme == "tar":
        subdirectory = ("--context-subdir", sub_path) if sub_path else ()
        return Context("-", subdirectory, None if rest == _STDIN else rest)
    if scheme == "git":
        return _git(rest, sub_path, git, environment)
    if scheme == "https":
        return Context(source, ("--context-subdir", sub_path) if sub_path else ())
    if scheme in ("gs", "s3"):
        raise UsageError(
            f"a context in a bucket cannot be read: `{show(source)}`",
            hint="fetch it with the tool of that cloud and use `--context tar://stdin` or a directory",
        )
    raise UsageError(
        f"unknown form of a context: `{show(source)}`",
        hint="known: a directory, `dir://`, `tar://`, `git://`, `https://`",
    )


def _directory(directory: str, sub_path: str) -> Context:
    path = os.path.join(directory, sub_path) if sub_path else directory
    return Context(path, directory=path)


def _git(address: str, sub_path: str, words: Mapping[str, str], environment: Mapping[str, str]) -> Context:
    """Return a repository: ``git://HOST/PATH[#REF[#COMMIT]]``, fetched over HTTPS, with its ``.git``, without submodules."""
    repository, *rest = address.split("#")
    method = environment.get("GIT_PULL_METHOD", "https")
    query = {"keep-git-dir": "true", "submodules": str(_on(words, "recurse-submodules")).lower()}
    if _on(words, "insecure-skip-tls"):
        raise UsageError(
            "`--git insecure-skip-tls` is not supported", hint="trust the server's authority: SSL_CERT_FILE"
        )
    if ref := words.get("branch") or "".join(rest[:1]):
        query["ref"] = ref
    if len(rest) > 1:
        query["ref"] = rest[1]
    if sub_path:
        query["subdir"] = sub_path
    if not repository.endswith(".git"):
        repository += ".git"
    url = f"{'http' if method == 'http' else 'https'}://{repository}?{urlencode(query, safe='/')}"
    login = git_login(environment)
    flags = ("--secret", f"id={_LOGIN},env={LOGIN_VARIABLE}") if login else ()
    return Context(url, flags, environment={LOGIN_VARIABLE: login} if login else {})


def git_login(environment: Mapping[str, str]) -> str:
    """Return the value of ``Authorization`` for the user that kaniko's variables name, or an empty text."""
    user, password = environment.get("GIT_USERNAME", ""), environment.get("GIT_PASSWORD", "")
    if token := environment.get("GIT_TOKEN", ""):
        user, password = token, ""
    if not user and not password:
        return ""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def git_words(values: list[str]) -> dict[str, str]:
    """Read ``--git branch=main,single-branch=true,recurse-submodules=false``. Raises UsageError."""
    known = ("branch", "single-branch", "recurse-submodules", "insecure-skip-tls")
    words = {name: value or "" for text in values for name, value in key_values(text)}
    if unknown := sorted(set(words) - set(known)):
        raise UsageError(f"unknown word of `--git`: `{show(unknown[0])}`", hint="known: " + ", ".join(known))
    return words


def _on(words: Mapping[str, str], name: str) -> bool:
    found = truth(words.get(name, "false"))
    if found is None:
        raise UsageError(f"`{name}` of `--git` is true or false, not `{show(words[name])}`")
    return found
