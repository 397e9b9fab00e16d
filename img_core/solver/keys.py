"""Cache keys: what makes a step run again (spec of Dockerfile, section 12 of the frontend notes; docs/explanation/cache.md)."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from img_core.spec.graph import canonical_value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from img_core.spec.graph import Vertex

__all__ = ["KEY_VERSION", "digest_of", "step_key"]

#: Raised by one when the same definition would give another result than before.
KEY_VERSION = 1


def digest_of(*parts: object) -> str:
    """Return the sha256 of *parts*, which are JSON values, in hexadecimal digits."""
    text = json.dumps([KEY_VERSION, *parts], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def step_key(vertex: Vertex, base_identity: str, contents: Iterable[str]) -> str:
    """Return the key of *vertex* on a root file system: its definition, that root, and digests of what it reads elsewhere."""
    return digest_of(canonical_value(vertex.op), str(vertex.platform or ""), base_identity, list(contents))
