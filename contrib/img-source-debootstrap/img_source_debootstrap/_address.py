"""What is asked for: ``debootstrap://SUITE?variant=…&mirror=…&include=…&components=…&keyring=…&unsigned=yes``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from img_core.spec import UsageError
from img_core.spec.text import show, suggestion

if TYPE_CHECKING:
    from img_core.spec import Platform

__all__ = ["SCHEME", "Address", "architecture", "parse"]

SCHEME = "debootstrap://"
MIRROR = "http://deb.debian.org/debian"
VARIANTS = ("minbase", "apt", "essential", "buildd", "important", "standard", "extract", "custom")
_KEYS = ("variant", "mirror", "include", "components", "keyring", "unsigned")
_WORD = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9+.~_-]*"
)  # names of suites, packages and components; none begins like an option
#: What Debian calls the architectures that images call otherwise (dpkg, cputable)
_ARCHITECTURES = {
    "386": "i386", "arm/v5": "armel", "arm/v6": "armel", "arm/v7": "armhf", "arm": "armhf", "arm64/v8": "arm64",
    "ppc64le": "ppc64el", "mips64le": "mips64el", "mipsle": "mipsel", "loong64": "loong64",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Address:
    """An address, taken apart and checked. *keyring*: a file of this machine with the keys that may sign; empty: apt's own. *unsigned*:
    whoever the mirror belongs to is trusted.
    """

    suite: str
    mirror: str = MIRROR
    variant: str = "minbase"
    include: tuple[str, ...] = ()
    components: tuple[str, ...] = ("main",)
    keyring: str = ""
    unsigned: bool = False

    @property
    def release(self) -> str:
        """The URL of the document that names all packages of the suite; it is signed, unless that is not asked for."""
        name = "Release" if self.unsigned else "InRelease"
        return f"{self.mirror.rstrip('/')}/dists/{self.suite}/{name}"


def parse(reference: str) -> Address:
    """Take *reference*, what follows the scheme, apart. Raises UsageError."""
    suite, _, query = reference.partition("?")
    try:
        values = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise UsageError(f"`{SCHEME}{show(reference)}`: what follows `?` is not `key=value&key=value`") from None
    for key in values:
        if key not in _KEYS:
            raise UsageError(f"`{SCHEME}{show(reference)}`: unknown key `{show(key)}`", hint=suggestion(key, _KEYS))
    lists = {key: tuple(filter(None, values[key].split(","))) for key in ("include", "components") if key in values}
    for word in (suite, *(word for words in lists.values() for word in words)):
        if not _WORD.fullmatch(word):
            raise UsageError(
                f"`{SCHEME}{show(reference)}`: `{show(word)}` cannot be a name", hint=f"e.g. `{SCHEME}bookworm`"
            )
    variant = values.get("variant", "minbase")
    if variant not in VARIANTS:
        raise UsageError(
            f"`{SCHEME}{show(reference)}`: unknown variant `{show(variant)}`", hint=suggestion(variant, VARIANTS)
        )
    mirror = values.get("mirror", MIRROR)
    if urlsplit(mirror).scheme not in ("http", "https", "file") or not mirror.isprintable() or set(mirror) & set(" []"):
        raise UsageError(
            f"`{SCHEME}{show(reference)}`: `{show(mirror)}` is not an address of a mirror", hint=f"e.g. `{MIRROR}`"
        )
    keyring = values.get("keyring", "")
    if keyring and (not keyring.startswith("/") or not keyring.isprintable() or set(keyring) & set(" []")):
        raise UsageError(f"`{SCHEME}{show(reference)}`: `keyring` is not an absolute path")
    if values.get("unsigned", "yes") != "yes" or (keyring and "unsigned" in values):
        raise UsageError(f"`{SCHEME}{show(reference)}`: `unsigned` is `yes`, without `keyring`, or is not there")
    components = lists.get("components", ("main",))
    return Address(suite, mirror, variant, lists.get("include", ()), components, keyring, "unsigned" in values)


def architecture(platform: Platform) -> str:
    """Return what Debian calls the architecture of *platform*."""
    name = f"{platform.architecture}/{platform.variant}" if platform.variant else platform.architecture
    return _ARCHITECTURES.get(name, _ARCHITECTURES.get(platform.architecture, platform.architecture))
