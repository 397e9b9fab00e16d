"""Platform specifiers: ``os/architecture/variant`` in every spelling people use, and which image runs where.

Rules and error texts follow containerd's platforms package. Standard library only, cheap to import.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from img_core.images import _spellings
from img_core.spec.errors import UsageError
from img_core.spec.values import Platform

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["InvalidPlatform", "choose", "host_platform", "matching_order", "normalize", "parse", "parse_list"]

_COMPONENT = re.compile(r"[A-Za-z0-9_.-]+")
_OS = re.compile(r"([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.-]*)\))?")

_OS_WORDS = """
    aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris wasi windows zos
"""
_ARCHITECTURE_WORDS = """
    386 amd64 arm arm64 arm64be armbe loong64 mips mips64 mips64le mips64p32 mips64p32le mipsle ppc ppc64 ppc64le
    riscv riscv64 s390 s390x sparc sparc64 wasm
"""
_KNOWN_OS = frozenset(_OS_WORDS.split())
_KNOWN_ARCHITECTURES = frozenset(_ARCHITECTURE_WORDS.split())


class InvalidPlatform(UsageError):
    """A text is not a platform specifier."""


def parse(text: str, *, prefix: str = "") -> Platform:
    """Read one specifier: ``linux/arm64``, ``x86_64``, ``linux`` (this processor), ``linux/arm/7``, ``local`` …

    Raises `InvalidPlatform` with *prefix* put before containerd's words for the fault.
    """
    try:
        return _parse(text)
    except InvalidPlatform as error:
        raise InvalidPlatform(prefix + error.message) from None


def parse_list(text: str, *, prefix: str = "") -> list[Platform]:
    """Read ``a,b,c`` as given to ``--platform``; platforms that are the same after normalising appear once."""
    return list(dict.fromkeys(parse(part.strip(), prefix=prefix) for part in text.split(",")))


def normalize(platform: Platform) -> Platform:
    """Return *platform* with the spelling of every part settled, e.g. ``linux/aarch64/v8`` -> ``linux/arm64``."""
    architecture, variant = _spellings.of_architecture(platform.architecture, platform.variant)
    return replace(platform, os=_spellings.of_system(platform.os), architecture=architecture, variant=variant)


def host_platform() -> Platform:
    """Return the platform of this machine, as the kernel names it."""
    return Platform(*_spellings.of_this_machine())


def matching_order(platform: Platform) -> list[Platform]:
    """Return the platforms whose images run on *platform*, best first.

    ``amd64/v3`` runs v2, v1 and 386; ``arm64`` runs 32-bit arm v8 to v5; ``arm/v7`` runs v6 and v5.
    """
    wanted = normalize(platform)
    architecture, level = wanted.architecture, _level(wanted.variant)
    names = [(architecture, wanted.variant)]
    if architecture == "amd64":
        names += [(architecture, f"v{lower}") for lower in range(level - 1, 0, -1)] + [("386", "")]
    elif architecture == "arm":
        names += [(architecture, f"v{lower}") for lower in range(level - 1, 4, -1)]
    elif architecture == "arm64":
        names += [(architecture, f"v{lower}") for lower in range(level - 1, 7, -1)]
        names += [("arm", f"v{lower}") for lower in range(8, 4, -1)]
    return [normalize(Platform(wanted.os, name, variant)) for name, variant in names]


def choose(wanted: Platform, offered: Sequence[Platform | None]) -> int | None:
    """Return the position in *offered* of what suits *wanted* best, or None.

    Equal offers: the first one wins. An offer without a platform never matches; the caller knows what else it can do.
    """
    best: tuple[int, int] | None = None
    ranks = {(p.os, p.architecture, p.variant): rank for rank, p in enumerate(matching_order(wanted))}
    for position, platform in _known(offered):
        rank = ranks.get((platform.os, platform.architecture, platform.variant))
        if rank is not None and _same_os_version(wanted, platform) and (best is None or rank < best[0]):
            best = (rank, position)
    return None if best is None else best[1]


def _known(offered: Iterable[Platform | None]) -> Iterable[tuple[int, Platform]]:
    return ((position, normalize(platform)) for position, platform in enumerate(offered) if platform is not None)


def _same_os_version(wanted: Platform, offered: Platform) -> bool:
    return not wanted.os_version or not offered.os_version or wanted.os_version == offered.os_version


def _level(variant: str) -> int:
    """Return the number in ``v3``; 0 for a variant that is no number."""
    digits = variant.removeprefix("v")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 4 else 0


def _parse(text: str) -> Platform:
    if text == "local":
        return host_platform()
    if "*" in text:
        raise InvalidPlatform(f"{_quote(text)}: wildcards not yet supported: invalid argument")
    parts = text.split("/", 3)
    match = _OS.fullmatch(parts[0])
    if match is None:
        raise InvalidPlatform(
            f"{_quote(parts[0])} is an invalid OS component of {_quote(text)}: "
            "OSAndVersion specifier component must look like `linux` or `windows(10.0.17763)`: invalid argument"
        )
    for part in parts[1:]:
        if not _COMPONENT.fullmatch(part):
            raise InvalidPlatform(
                f"{_quote(part)} is an invalid component of {_quote(text)}: "
                f'platform specifier component must match "^{_COMPONENT.pattern}$": invalid argument'
            )
    if len(parts) > 3:
        raise InvalidPlatform(f"{_quote(text)}: cannot parse platform specifier: invalid argument")
    if len(parts) == 1:
        return _complete(text, match[1], match[2] or "")
    return normalize(Platform(match[1], parts[1], parts[2] if len(parts) == 3 else "", match[2] or ""))


def _complete(text: str, word: str, os_version: str) -> Platform:
    """Make a platform of a single word, which is an operating system or an architecture."""
    host = host_platform()
    if _spellings.of_system(word) in _KNOWN_OS:
        return replace(host, os=_spellings.of_system(word), os_version=os_version)
    architecture, variant = _spellings.of_architecture(word, "")
    if architecture in _KNOWN_ARCHITECTURES:
        return Platform(host.os, architecture, variant)
    raise InvalidPlatform(f"{_quote(text)}: unknown operating system or architecture: invalid argument")


def _quote(text: str) -> str:
    """Return *text* in double quotes with everything unprintable escaped."""
    return json.dumps(text)
