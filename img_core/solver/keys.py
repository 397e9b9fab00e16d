"""Cache keys: what makes a step run again (docs/explanation/architecture.md)."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from img_core.spec.graph import canonical_value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from img_core.spec.graph import Vertex

__all__ = ["KEY_VERSION", "definition_of", "digest_of", "step_key"]

#: Raised by one when the same definition would give another result than before.
KEY_VERSION = 2


def digest_of(*parts: object) -> str:
    """Return the sha256 of *parts*, which are JSON values, in hexadecimal digits."""
    text = json.dumps([KEY_VERSION, *parts], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def step_key(vertex: Vertex, base_identity: str, contents: Iterable[str]) -> str:
    """Return the key of *vertex* on a root file system: its definition, that root, and digests of what it reads elsewhere."""
    operation, platform = canonical_value(vertex.op, key=True), canonical_value(vertex.platform)
    return digest_of(operation, platform, base_identity, list(contents))


def definition_of(vertex: Vertex) -> str:
    """Return a digest of all that *vertex* itself says, also of what is not in its key."""
    return digest_of("definition", canonical_value(vertex.op), canonical_value(vertex.platform))
