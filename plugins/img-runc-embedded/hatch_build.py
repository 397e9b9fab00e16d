"""Puts a runc binary into the wheel; the environment says which one (see README.md)."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import sys
import tempfile
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PACKAGE: Final = "img_runc_embedded"
_COPYRIGHT: Final = "/usr/share/doc/runc/copyright"
_FURTHER: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")

#: names of `e_machine`, see elf(5)
_MACHINES: Final = {
    3: "i686",
    21: "ppc64le",
    22: "s390x",
    40: "armv7l",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # the configuration class is hatchling's business
    """Adds the binary and its licence, and marks the wheel as one for the binary's machine."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # Any: hatchling's
        """Add the files of a wheel; editable installations get them too."""
        self._directory = tempfile.mkdtemp(prefix="img-runc-")
        try:
            self._add(version, build_data)
        except BaseException:  # nobody calls `finalize` then
            shutil.rmtree(self._directory)
            raise

    def _add(self, version: str, build_data: dict[str, Any]) -> None:  # Any: hatchling's
        # What is checked is the copy, so nobody can change the file between the check and the packing.
        binary = os.path.join(self._directory, "runc")
        shutil.copyfile(_binary(), binary)
        os.chmod(binary, 0o755)  # noqa: S103  # everybody may run it, as any program
        _check_digest(binary, os.environ.get("IMG_RUNC_SHA256", ""))
        machine = _machine(binary)
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-" + (os.environ.get("IMG_RUNC_PLATFORM") or f"linux_{machine}")
        added = {binary: f"{_PACKAGE}/bin/runc", _license(): f"{_PACKAGE}/bin/LICENSE.runc"}
        build_data["force_include_editable" if version == "editable" else "force_include"].update(added)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # Any: hatchling's
        """Remove the copy."""
        shutil.rmtree(self._directory)


def _binary() -> str:
    wanted = os.environ.get("IMG_RUNC_BINARY")
    found = wanted or shutil.which("runc", path=os.pathsep.join([os.environ.get("PATH", ""), *_FURTHER]))
    if not found:
        sys.exit("img-runc-embedded: no `runc` on PATH; name one with IMG_RUNC_BINARY")
    if not os.path.isfile(found):
        sys.exit(f"img-runc-embedded: IMG_RUNC_BINARY names no file: {found}")
    return found


def _license() -> str:
    path = os.environ.get("IMG_RUNC_LICENSE") or _COPYRIGHT
    if not os.path.isfile(path):
        sys.exit(f"img-runc-embedded: no licence text at {path}; name it with IMG_RUNC_LICENSE")
    return path


def _check_digest(path: str, wanted: str) -> None:
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if wanted and found != wanted.strip().lower():
        sys.exit(f"img-runc-embedded: sha256 of runc is {found}, IMG_RUNC_SHA256 is {wanted}")


def _machine(path: str) -> str:
    with open(path, "rb") as file:
        header = file.read(20)
    if header[:4] != b"\x7fELF" or len(header) < 20:
        sys.exit("img-runc-embedded: runc is not an ELF program; is it a script?")
    order = "<" if header[5] == 1 else ">"
    (number,) = struct.unpack_from(f"{order}H", header, 18)
    if number not in _MACHINES:
        sys.exit(f"img-runc-embedded: no name known for machine {number}; use IMG_RUNC_PLATFORM")
    return _MACHINES[number]
