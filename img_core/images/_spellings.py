"""How operating systems, architectures and their variants are spelled. Imports nothing, for `img version`."""

from __future__ import annotations

import os
import sys

__all__ = ["of_architecture", "of_system", "of_this_machine"]

#: Spellings of an architecture that imply a variant, or none.
_ALIASES = {
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv5l": ("arm", "v5"),
    "armv5tel": ("arm", "v5"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v8"),
    "loongarch64": ("loong64", ""),
}
#: Spellings of an architecture that keep the variant given with them.
_SYNONYMS = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
#: Per architecture: the spelling of a variant -> ours; a variant that the architecture alone already means is empty.
_VARIANTS = {
    "amd64": {"v1": ""},
    "arm64": {"8": "", "v8": "", "9": "v9", "9.0": "v9", "v9.0": "v9"},
    "arm": {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"},
}


def of_this_machine() -> tuple[str, str, str]:
    """Return system, architecture and variant of this machine, as the kernel names it."""
    system = os.uname()
    machine = system.machine
    if machine.startswith("mips") and sys.byteorder == "little":
        machine += "le"
    return (of_system(system.sysname), *of_architecture(machine, ""))


def of_system(name: str) -> str:
    """Return the spelling of an operating system's *name*, in whatever case."""
    name = name.lower()
    return "darwin" if name == "macos" else name


def of_architecture(architecture: str, variant: str) -> tuple[str, str]:
    """Return *architecture* and *variant* in the spelling of Go, which images use."""
    architecture, variant = architecture.lower(), variant.lower()
    if architecture in _ALIASES:
        return _ALIASES[architecture]
    architecture = _SYNONYMS.get(architecture, architecture)
    return architecture, _VARIANTS.get(architecture, {}).get(variant, variant)
