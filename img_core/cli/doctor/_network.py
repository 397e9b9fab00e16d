"""What builds need of the network: certificates, and helpers for a network of a step's own."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

from img_core.cli.doctor._finding import NOTE, OK, WORSE, Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["certificates", "helpers"]

_HELPERS: Final = ("slirp4netns", "pasta")
_TUN: Final = "/dev/net/tun"


def helpers(environment: Mapping[str, str]) -> Finding:
    """Look for the programs that connect a private network namespace without privileges."""
    what = "private network"
    found = [name for name in _HELPERS if shutil.which(name, path=environment.get("PATH"))]
    alone = "steps share the host's network, or have none with `--network=none`"
    if not found:
        return Finding(
            NOTE, what, f"neither `slirp4netns` nor `pasta` is on PATH: {alone}", "`sudo apt-get install slirp4netns`"
        )
    if not os.access(_TUN, os.R_OK | os.W_OK):
        hint = f"`sudo modprobe tun && sudo chmod 666 {_TUN}`; a container is started with `--device {_TUN}`"
        return Finding(NOTE, what, f"`{found[0]}` cannot open `{_TUN}`: {alone}", hint)
    return Finding(OK, what, ", ".join(found))


def certificates() -> Finding:
    """Look for the system's certificate authorities."""
    import ssl  # 20 ms

    paths = ssl.get_default_verify_paths()
    found = [path for path in (paths.cafile, paths.capath) if path and os.path.exists(path)]
    if found:
        return Finding(OK, "certificates", found[0])
    text = f"no certificate authorities at {paths.openssl_cafile}: registries cannot be verified"
    return Finding(WORSE, "certificates", text, "install the package `ca-certificates`")
