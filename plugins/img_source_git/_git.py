"""The git program, shut in: no configuration but ours, no hooks, no questions, only the protocols that we name.

git runs where nothing of the user is, in an empty private directory and with an explicit environment. What it writes there is handed on
only after it ended. (research: CVE-2021-21300, CVE-2024-32002 and relatives all needed configuration, hooks or links of the repository.)

ssh would find the user's keys and configuration by itself, whatever the environment says. So it is run only for who may use them:

- the address of the main context, which the user typed: his ssh serves it as at his shell;
- everything else, submodules among it, with ``--ssh``: the agent that was given, known hosts, and nothing else;
- else not at all.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from img_core.files import fs
from img_core.net.addresses import same_origin, secret_names
from img_core.spec.errors import CredentialsError, HostError
from img_core.spec.text import show

if TYPE_CHECKING:
    from img_core.linux.programs import Finished, Programs
    from img_core.spec.source import SourceContext
    from img_source_git._address import Address

__all__ = ["Git", "login_header", "said"]

_PROTOCOLS = "http:https:git"
#: What git may know of the builder's environment: the way to the network.
_PASSED_ON = (
    "PATH",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "CURL_CA_BUNDLE",
)  # fmt: skip
_SSH = "ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=30"
#: The keys of the agent that ssh is given, and nothing that it finds: no file of keys, configuration (aliases, proxies), Kerberos ticket.
_GIVEN_ONLY = " -F none -o IdentityFile=none -o PreferredAuthentications=publickey -o StrictHostKeyChecking=yes -o UpdateHostKeys=no"
_AGENT = "default"
_SETTINGS = {
    "advice.detachedHead": "false",
    "core.autocrlf": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.logAllRefUpdates": "false",
    "core.symlinks": "true",
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    "http.emptyAuth": "false",  # else a server that asks for Kerberos gets the user's ticket
    "http.lowSpeedLimit": "500",  # bytes a second of the body, over these seconds; headers do not count
    "http.lowSpeedTime": "30",
    "init.defaultBranch": "main",
    "maintenance.auto": "false",
    "submodule.recurse": "false",
}


class Git:
    """Runs git for one *address* in *directory*, which is made here, private, and the caller's to remove.

    Raises CredentialsError for an address that needs ssh where that is not allowed.
    """

    def __init__(self, programs: Programs, context: SourceContext, address: Address, directory: str) -> None:
        given = _given_ssh(context)
        ssh = _own_ssh(context) if context.own_ssh else given
        if address.over_ssh and not ssh:
            raise CredentialsError(
                f"git over ssh needs `--ssh {_AGENT}`: `{address.shown}`",
                hint=f"`--ssh {_AGENT}` gives it the keys of your agent, `--ssh {_AGENT}=FILE` a single key; nothing else of yours is used",
            )
        self._programs = programs
        self.directory = directory
        self.work = os.path.join(directory, "work")
        for path in (directory, os.path.join(directory, "home"), os.path.join(directory, "templates")):
            fs.mkdir(path, 0o700)
        common = _environment(context, address, directory)
        self._environment = {**common, **ssh}
        self._strange = {**common, **given}

    def run(self, *arguments: str, inside: bool = True, strange: bool = False) -> Finished:
        """Run git with *arguments*, *inside* the work tree; *strange*: it goes to where the repository sends us, not the user.

        Raises HostError if there is no git, Canceled.
        """
        directory = self.work if inside else self.directory
        environment = self._strange if strange else self._environment
        done = self._programs.run(["git", *arguments], environment=environment, directory=directory)
        if done.status == 127 and done.complaint.startswith(b"git: "):
            raise HostError("git sources need the program `git`", hint="install git")
        return done


def said(done: Finished) -> str:
    """Return the complaint of git for people."""
    return show(done.complaint.removeprefix(b"fatal: "))


def _given_ssh(context: SourceContext) -> dict[str, str]:
    """Return the variables that let git use ssh with the agent that was given; none without one."""
    socket = context.agents.get(_AGENT)
    if not socket:
        return {}
    command = _SSH + _GIVEN_ONLY
    return {"GIT_ALLOW_PROTOCOL": f"{_PROTOCOLS}:ssh", "GIT_SSH_COMMAND": command, "SSH_AUTH_SOCK": socket}


def _own_ssh(context: SourceContext) -> dict[str, str]:
    """Return the variables that let git use ssh as the user does."""
    socket = context.agents.get(_AGENT) or context.host.environment.get("SSH_AUTH_SOCK", "")
    agent = {"SSH_AUTH_SOCK": socket} if socket else {}
    return {"GIT_ALLOW_PROTOCOL": f"{_PROTOCOLS}:ssh", "GIT_SSH_COMMAND": _SSH, **agent}


def _environment(context: SourceContext, address: Address, directory: str) -> dict[str, str]:
    """Return the environment of git without ssh."""
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
        "GIT_TEMPLATE_DIR": os.path.join(directory, "templates"),
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
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
    """Return the value of the header ``Authorization``, from *address* itself or the build's secrets; empty if there is none.

    A secret is for the origin that its id names; one that names none, for those that the user gave on the command line, over TLS.
    """
    if not address.host:
        return ""
    parts = urlsplit(address.remote)
    if parts.username is not None:
        return _basic(f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode())
    url = address.public_remote
    endings = [f".{name}" for name in secret_names(url)]
    if parts.scheme == "https" and same_origin(url, context.named):
        endings.append("")
    for kind in ("TOKEN", "HEADER"):
        for ending in endings:
            secret = context.secrets(f"GIT_AUTH_{kind}{ending}")
            if secret is None:
                continue
            text = secret.strip()
            if kind == "TOKEN":
                return _basic(b"x-access-token:" + text)
            return text.decode("latin-1")
    return ""


def _basic(pair: bytes) -> str:
    return "Basic " + base64.b64encode(pair).decode()
