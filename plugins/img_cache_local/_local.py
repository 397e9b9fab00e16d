"""The backend of a directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from img_cache_local._layout import SharedLayout
from img_core.images.digests import is_digest
from img_core.images.reference import is_tag
from img_core.spec.cache import CacheContext
from img_core.spec.errors import UsageError
from img_core.spec.text import show
from img_lib_cache.backend import DocumentCache
from img_lib_cache.options import schema

__all__ = ["LocalCache"]


class LocalCache(DocumentCache):
    """Keeps records in the directory ``dest`` and finds them in the directory ``src``."""

    name = "local"
    schema = schema(
        {
            "dest": {"type": "string", "description": "directory to save into; made if it is missing"},
            "src": {"type": "string", "description": "directory to look in"},
            "tag": {"type": "string", "description": "name of the cache in the directory; latest by default"},
            "digest": {
                "type": "string",
                "description": "digest of the document to look in, whatever the tag means now",
            },
            "reset": {"type": "boolean", "description": "remove blobs from the directory that nothing in it needs"},
        }
    )
    own_options: ClassVar[Mapping[str, bool]] = {"dest": True, "src": False, "digest": False, "reset": True}

    def __init__(self, context: CacheContext, options: Mapping[str, Any]) -> None:  # Any: JSON
        super().__init__(context, options)
        self._directory = os.path.abspath(str(options.get("dest") or options.get("src") or ""))
        self.location = f"{self.name} {os.path.realpath(self._directory)}"
        if not is_tag(self.tag):
            raise UsageError(f"`{show(self.tag)}` is no name for a cache", hint="letters, digits, `_`, `.` and `-`")
        if self._digest and not is_digest(self._digest):
            raise UsageError(
                f"`{show(self._digest)}` is no digest", hint="expected `sha256:` and 64 hexadecimal digits"
            )

    @property
    def tag(self) -> str:
        """The option ``tag``."""
        return str(self.options.get("tag") or "latest")

    @property
    def _digest(self) -> str:
        return str(self.options.get("digest") or "")

    def check(self, *, export: bool) -> None:
        """Require the directory; it need not exist."""
        super().check(export=export)
        name = "dest" if export else "src"
        if not self.options.get(name):
            raise UsageError(f"a local cache needs `{name}`", hint=f"add `{name}=DIRECTORY`")

    def open_place(self) -> SharedLayout:
        """Return the directory."""
        return SharedLayout(self._directory, self.tag, digest=self._digest, reset=bool(self.options.get("reset")))
