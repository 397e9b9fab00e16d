"""Lock files: which exact content each image, URL and repository of a build definition means.

``{"version": 1, "sources": {IDENTIFIER: DIGEST}}`` (docs/reference/lock.schema.json); the identifier is that of `SourceOp`, without
passwords, the digest what `Source.pin_of` names.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from img_core.forms.strict_json import DOCUMENT_LIMIT, load_json
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import NotFoundError, UsageError
from img_core.spec.text import redacted, show, show_path, why

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from img_core.spec.graph import SourceOp
    from img_core.spec.source import Source

__all__ = ["Lock", "LockRule", "identifier", "lock_path", "read_lock"]

_VERSION = 1
_SUFFIX = ".lock"


@dataclass(frozen=True, slots=True)
class Lock:
    """What a build definition takes from outside: *sources* maps identifiers to digests (of git: commits).

    *path* is where its file belongs, beside the definition; empty if that is in no file.
    """

    sources: Mapping[str, str]
    path: str = ""

    @property
    def text(self) -> str:
        """The content of the file, always the same for the same sources."""
        document = {"version": _VERSION, "sources": dict(self.sources)}
        return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def lock_path(definition: str | None) -> str:
    """Return where the lock of the file *definition* belongs; empty for a definition that is in no file."""
    return f"{definition}{_SUFFIX}" if definition else ""


def identifier(op: SourceOp) -> str:
    """Return what a lock calls *op*: no password stands in there."""
    return redacted(op.identifier)


def read_lock(path: str) -> Lock:
    """Read a lock file. Raises NotFoundError, and UsageError for what is none."""
    shown = show_path(path)
    try:
        with open(path, "rb") as file:
            content = file.read(DOCUMENT_LIMIT + 1)
    except FileNotFoundError:
        raise NotFoundError(f"lock file `{shown}`: no such file", hint="`img lock` writes it") from None
    except OSError as err:
        raise UsageError(f"lock file `{shown}`: {why(err)}") from err
    document = load_json(content, name=f"lock file `{shown}`")
    sources = document.get("sources") if isinstance(document, dict) else None
    if not isinstance(sources, dict) or not all(isinstance(value, str) for value in sources.values()):
        raise UsageError(f"`{shown}` is not a lock file", hint="`img lock` writes one")
    if document.get("version") != _VERSION:
        version = show(str(document.get("version")), limit=40)
        raise UsageError(f"lock file `{shown}` has version {version}, known is {_VERSION}", hint="`img lock` writes it")
    return Lock(sources, os.path.abspath(path))


class LockRule:
    """Takes what *lock* says, and nothing else. *driver* gives the source of a scheme."""

    def __init__(self, lock: Lock, driver: Callable[[str], type[Source]]) -> None:
        self._lock = lock
        self._driver = driver
        self._exact: set[SourceOp] = set()

    def __call__(self, op: SourceOp) -> SourceOp | None:
        """Return *op* at its locked digest. Raises NotFoundError for what is not locked, IntegrityError for what names another digest."""
        driver = self._driver(op.scheme)
        if op in self._exact or not driver.is_remote:
            return None
        name = identifier(op)
        pin = self._lock.sources.get(name)
        if pin is None:
            raise NotFoundError(
                f"`{show(name)}` is not in the lock file `{show_path(self._lock.path)}`",
                hint="`img lock` writes what the build definition means now",
            )
        exact = driver.pinned_to(op, pin)
        self._exact.add(exact)
        return exact
