"""Image references: ``[domain[:port]/]path[:tag][@digest]``, read and shortened as Docker does.

``busybox`` means ``docker.io/library/busybox``; the first component is a host only if it contains a dot or a colon, is
``localhost``, or is not lower-case. Grammar: the reference package of the distribution project. Cheap to import.
"""

from __future__ import annotations

import re
from dataclasses import replace

from img_core.images.digests import ALGORITHMS, CANONICAL, UNSUPPORTED, is_digest
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import UsageError

__all__ = [
    "DEFAULT_DOMAIN",
    "DEFAULT_TAG",
    "HUB_HOSTS",
    "InvalidReference",
    "Reference",
    "full_id",
    "is_tag",
    "server_name",
]

DEFAULT_DOMAIN = "docker.io"
#: What Docker Hub is called in addresses and in files of credentials.
HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
DEFAULT_TAG = "latest"
_OFFICIAL = "library/"
_LEGACY_DOMAIN = "index.docker.io"
_PATH_LIMIT = 255

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
)
_HEX_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_TAG_ALONE = re.compile(_TAG)


class InvalidReference(UsageError):
    """A text is not an image reference."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised reference; build one with `Reference.parse`, which is what checks the parts."""

    domain: str  #: registry host, with the port if one was given, e.g. ``docker.io`` or ``localhost:5000``
    path: str  #: repository, e.g. ``library/busybox``
    tag: str | None = None
    digest: str | None = None  #: ``algorithm:hex``, lower-case

    @classmethod
    def parse(cls, text: str, *, prefix: str = "") -> Reference:
        """Read *text*; raise `InvalidReference` with *prefix* put before Docker's words for the fault."""
        try:
            return _parse(text)
        except InvalidReference as error:
            raise InvalidReference(prefix + error.message, hint=error.hint) from None

    @property
    def name(self) -> str:
        """The repository with its host, without tag and digest."""
        return f"{self.domain}/{self.path}"

    def with_default_tag(self) -> Reference:
        """Return this reference with ``:latest``, unless it has a tag or a digest."""
        return self if self.tag or self.digest else replace(self, tag=DEFAULT_TAG)

    def with_tag(self, tag: str) -> Reference:
        """Return this repository with *tag* and without a digest."""
        if not is_tag(tag):
            raise InvalidReference("invalid tag format")
        return Reference(self.domain, self.path, tag)

    def with_digest(self, digest: str) -> Reference:
        """Return this reference with *digest*, keeping the tag."""
        if not is_digest(digest):
            raise InvalidReference("invalid digest format")
        return replace(self, digest=digest)

    def familiar(self) -> str:
        """Return the shortest text that still parses to this reference, e.g. ``busybox:1.36``."""
        return self.familiar_name + self._suffix

    @property
    def familiar_name(self) -> str:
        """`familiar` without tag and digest."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        short = self.path.removeprefix(_OFFICIAL) if self.path.count("/") == 1 else self.path
        # `docker.io/localhost/x` or `docker.io/a.b/x` would name another host when shortened.
        return short if not _is_identifier(short) and _split_domain(short) == (self.domain, self.path) else self.name

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._suffix


def is_tag(text: str) -> bool:
    """Tell whether *text* is a well-formed tag."""
    return _TAG_ALONE.fullmatch(text) is not None


def full_id(text: str) -> str:
    """Return *text* with its algorithm if it is the whole id of an image; else an empty text. ``sha256:`` may be left out.

    An id wins over the repository ``sha256`` that the same text could name, as with docker.
    """
    if is_digest(text):
        return text
    return f"{CANONICAL}:{text}" if _is_identifier(text) else ""


def _parse(text: str) -> Reference:
    if _is_identifier(text):
        raise InvalidReference(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(text)
    repository = remainder.partition(":")[0]
    if repository.lower() != repository and repository.isprintable():
        raise InvalidReference(f"invalid reference format: repository name ({repository}) must be lowercase")
    match = _REFERENCE.fullmatch(f"{domain}/{remainder}")
    if match is None:
        raise InvalidReference("invalid reference format")
    if len(match["path"]) > _PATH_LIMIT:
        raise InvalidReference(f"repository name must not be more than {_PATH_LIMIT} characters")
    if match["digest"]:
        _check_digest(match["digest"])
    return Reference(match["domain"], match["path"], match["tag"], match["digest"])


def _is_identifier(text: str) -> bool:
    """Tell whether *text* looks like an image id, which is not a name."""
    return _HEX_IDENTIFIER.fullmatch(text) is not None


def _split_domain(text: str) -> tuple[str, str]:
    """Return host and remainder of *text*, with Docker Hub's host and ``library/`` filled in."""
    first, slash, rest = text.partition("/")
    is_host = slash and (first == "localhost" or "." in first or ":" in first or first.lower() != first)
    domain, remainder = (first, rest) if is_host else (DEFAULT_DOMAIN, text)
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    # A slash after the colon belongs to nothing valid; `_REFERENCE` refuses it.
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder


def _check_digest(digest: str) -> None:
    algorithm, _, encoded = digest.partition(":")
    if algorithm not in ALGORITHMS:
        raise InvalidReference("unsupported digest algorithm", hint=UNSUPPORTED)
    if len(encoded) != ALGORITHMS[algorithm]:
        raise InvalidReference("invalid checksum digest length")
    if not is_digest(digest):
        raise InvalidReference("invalid checksum digest format")


def server_name(text: str) -> str:
    """Return the registry that *text* (``host``, ``host/path``, ``https://host/v1/``, empty: Docker Hub) means, as in references.

    Raises UsageError.
    """
    host = text.strip().partition("://")[2] or text.strip()
    host = host.partition("/")[0]
    if not host or host in HUB_HOSTS:
        return DEFAULT_DOMAIN
    if not host.isprintable() or any(character in host for character in " @\\?#"):
        raise UsageError(f"`{text}` is not the name of a registry", hint="expected `HOST[:PORT]`")
    return host
