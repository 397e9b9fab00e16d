"""The git program, shut in: no configuration but ours, no hooks, no questions, only the protocols that we name.

git runs where nothing of the user is, in an empty private directory and with an explicit environment. What it writes there is handed on
only after it ended. (research: CVE-2021-21300, CVE-2024-32002 and relatives all needed configuration, hooks or links of the repository.)
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from img_core.kit import fs
from img_core.spec.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.kit.programs import Finished, Programs
    from img_core.spec.source import SourceContext
    from img_source_git._address import Address

__all__ = ["Git", "login_header"]

_PROTOCOLS = "http:https:git:ssh"
#: What git may know of the builder's environment: the way to the network.
_PASSED_ON = (
    "PATH",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "CURL_CA_BUNDLE",
)  # fmt: skip
_SSH = "ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=30"
#: Without leave to use keys: a Dockerfile of a stranger must not fetch what only the user may read.
_NO_KEYS = " -o IdentityAgent=none -o IdentitiesOnly=yes -o IdentityFile=/dev/null"
_SETTINGS = {
    "advice.detachedHead": "false",
    "core.autocrlf": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.logAllRefUpdates": "false",
    "core.symlinks": "true",
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    "http.lowSpeedLimit": "100",
    "http.lowSpeedTime": "60",
    "init.defaultBranch": "main",
    "maintenance.auto": "false",
    "submodule.recurse": "false",
}


class Git:
    """Runs git for one *address* in *directory*, which is made here, private, and the caller's to remove."""

    def __init__(self, programs: Programs, context: SourceContext, address: Address, directory: str) -> None:
        self._programs = programs
        self.directory = directory
        self.work = os.path.join(directory, "work")
        for path in (directory, os.path.join(directory, "home"), os.path.join(directory, "templates")):
            fs.mkdir(path, 0o700)
        self._environment = _environment(context, address, directory)

    def run(self, *arguments: str, inside: bool = True) -> Finished:
        """Run git with *arguments*, *inside* the work tree. Raises HostError if there is no git, Canceled."""
        directory = self.work if inside else self.directory
        done = self._programs.run(["git", *arguments], environment=self._environment, directory=directory)
        if done.status == 127 and done.complaint.startswith(b"git: "):
            raise HostError("git sources need the program `git`", hint="install git")
        return done


def _environment(context: SourceContext, address: Address, directory: str) -> dict[str, str]:
    given = context.host.environment
    values = {name: given[name] for name in _PASSED_ON if name in given}
    values.setdefault("PATH", os.defpath)
    values |= {
        "HOME": os.path.join(directory, "home"),
        "XDG_CONFIG_HOME": os.path.join(directory, "home"),
        "GIT_ALLOW_PROTOCOL": _PROTOCOLS,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CEILING_DIRECTORIES": directory,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_SSH_COMMAND": _SSH if "default" in context.agents else _SSH + _NO_KEYS,
        "GIT_TEMPLATE_DIR": os.path.join(directory, "templates"),
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
    if context.agents.get("default"):
        values["SSH_AUTH_SOCK"] = context.agents["default"]
    settings = dict(_SETTINGS)
    header = login_header(context, address)
    if header:
        parts = urlsplit(address.public_remote)
        home = f"http.{parts.scheme}://{parts.netloc}/"
        # Bound to the host, so that submodules elsewhere do not get it; in the environment, because arguments can be read by all.
        settings[f"{home}.extraHeader"] = f"Authorization: {header}"
        # git would go on with the header at the place that it is redirected to.
        settings[f"{home}.followRedirects"] = "false"
    values["GIT_CONFIG_COUNT"] = str(len(settings))
    for number, (name, value) in enumerate(settings.items()):
        values[f"GIT_CONFIG_KEY_{number}"], values[f"GIT_CONFIG_VALUE_{number}"] = name, value
    return values


def login_header(context: SourceContext, address: Address) -> str:
    """Return the value of the header ``Authorization``, from *address* itself or the build's secrets; empty if there is none."""
    if not address.host:
        return ""
    parts = urlsplit(address.remote)
    if parts.username is not None:
        return _basic(f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode())
    names: Mapping[str, tuple[str, ...]] = {
        kind: (f"GIT_AUTH_{kind}.{address.host}", f"GIT_AUTH_{kind}") for kind in ("TOKEN", "HEADER")
    }
    for kind, candidates in names.items():
        for name in candidates:
            secret = context.secrets(name)
            if secret is None:
                continue
            text = secret.strip()
            if kind == "TOKEN":
                return _basic(b"x-access-token:" + text)
            return text.decode("latin-1")
    return ""


def _basic(pair: bytes) -> str:
    return "Basic " + base64.b64encode(pair).decode()
