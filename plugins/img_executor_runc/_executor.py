"""Which of the runtimes that are installed on the host runs the steps."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, Final

from img_core.spec.errors import Unsupported
from img_lib_containers.oci_runtime.executor import OciRuntimeExecutor
from img_lib_containers.oci_runtime.lookup import find_on_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.spec.host import Host

_RUNTIMES: Final = ("runc", "crun", "youki")
# Runtimes often live in a directory that is not on the PATH of ordinary users.
_FURTHER: Final = ("/usr/local/sbin", "/usr/sbin", "/usr/bin")


class RuncExecutor(OciRuntimeExecutor):
    """Runs steps with the OCI runtime that the option ``runtime`` names, else the first known one on PATH."""

    name = "runc"
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "runtime": {
                "type": "string",
                "description": "name or path of the OCI runtime: runc, crun, youki",
                "x-environment": "IMG_RUNTIME",
            }
        },
        "additionalProperties": False,
    }

    @classmethod
    def find_runtime(cls, host: Host, options: Mapping[str, Any]) -> str:
        """Return the path of the named runtime, or of the first one there is."""
        wanted = options.get("runtime") or ""
        for name in (wanted,) if wanted else _RUNTIMES:
            path = name if "/" in name and os.access(name, os.X_OK) else find_on_path(host, name, further=_FURTHER)
            if path:
                return path
        if "/" in wanted:
            raise Unsupported(f"the OCI runtime `{wanted}` is missing, or not executable")
        raise Unsupported(f"`{wanted}` is not on PATH" if wanted else "none of `runc`, `crun` and `youki` is on PATH")
