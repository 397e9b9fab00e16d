"""What builds need of the network: certificates, and helpers for a network of a step's own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from img_core.cli.doctor._finding import NOTE, OK, WORSE, Finding
from img_core.spec.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["abstract_sockets", "certificates", "helpers"]


def helpers(environment: Mapping[str, str]) -> Finding:
    """Look for the programs that connect a private network namespace without privileges."""
    from img_core.linux.network.choice import NetworkChoice
    from img_core.linux.network.private import find_tool

    what = "private network"
    try:
        name, _ = find_tool(NetworkChoice("private"), environment)
    except HostError as err:
        return Finding(NOTE, what, err.message, err.hint or "")
    return Finding(OK, what, f"by `{name}`, with `--network=private`")


def abstract_sockets(environment: Mapping[str, str]) -> Finding:
    """Tell what keeps steps from the abstract sockets of the host, such as a session bus of this user."""
    from img_core.linux import sandbox
    from img_core.linux.network.private import shields_default

    what = "abstract sockets"
    if sandbox.hides_abstract_sockets():
        return Finding(OK, what, "hidden from steps by Landlock")
    without = "this kernel cannot hide them from steps (Landlock of Linux 6.12)"
    if shields_default(environment):
        return Finding(OK, what, f"{without}, so a step gets a network of its own unless it asks for the host's")
    text = f"{without}: on the host's network one can talk to programs of this user, such as a session bus"
    return Finding(WORSE, what, text, "for builds of strangers use `--network=none`, or make a private network work")


def certificates() -> Finding:
    """Look for the system's certificate authorities."""
    import ssl  # 20 ms

    paths = ssl.get_default_verify_paths()
    found = [path for path in (paths.cafile, paths.capath) if path and os.path.exists(path)]
    if found:
        return Finding(OK, "certificates", found[0])
    text = f"no certificate authorities at {paths.openssl_cafile}: registries cannot be verified"
    return Finding(WORSE, "certificates", text, "install the package `ca-certificates`")
