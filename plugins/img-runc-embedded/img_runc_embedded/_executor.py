"""Which runc that is, and when it is used."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any, ClassVar, Final

from img_core.spec.errors import Unsupported
from img_lib_containers.oci_runtime.executor import OciRuntimeExecutor
from img_lib_containers.oci_runtime.lookup import find_on_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.spec.host import Host

_BINARY: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "runc")
_PATIENCE: Final = 20  # seconds for `runc --version`


class EmbeddedRuncExecutor(OciRuntimeExecutor):
    """Runs steps with the runc beside this module, unless one is on PATH: that one gets the host's security updates."""

    name = "runc-embedded"
    schema: ClassVar[Mapping[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}

    @classmethod
    def find_runtime(cls, host: Host, options: Mapping[str, Any]) -> str:
        """Return the path of our runc; Unsupported where the host has one."""
        installed = find_on_path(host, "runc")
        if installed:
            raise Unsupported(f"not needed: `{installed}` is on PATH", hint="use `--executor runc`")
        if not os.access(_BINARY, os.X_OK):
            raise Unsupported(f"`{_BINARY}` is missing or not executable", hint="install a wheel of img-runc-embedded")
        return _BINARY

    @classmethod
    def probe(cls, host: Host, options: Mapping[str, Any] | None = None) -> None:
        """Need what every runtime needs, no runc on PATH, and the libraries that ours is linked against."""
        super().probe(host, options)
        command = [cls.find_runtime(host, {}), "--version"]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env={}, timeout=_PATIENCE)
        except (OSError, subprocess.TimeoutExpired) as err:  # no such loader, or a file system without execution
            raise Unsupported(f"`{command[0]}` does not start: {err}") from err
        if done.returncode:
            lines = done.stderr.decode(errors="replace").splitlines()
            raise Unsupported(f"`{command[0]}` does not start: {lines[-1] if lines else f'status {done.returncode}'}")
