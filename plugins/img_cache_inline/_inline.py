"""The backend that is no place: records travel in the image, and its layers are theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.spec.cache import CacheBackend, CacheContext, CacheLayer, CacheLoad, CacheRecord
from img_core.spec.errors import Unsupported, UsageError
from img_lib_cache.document import Body
from img_lib_cache.envelope import config_entry
from img_lib_cache.signing import SigningKey

if TYPE_CHECKING:
    from img_core.spec.exporter import BuiltImage
    from img_core.spec.values import Descriptor

__all__ = ["InlineCache"]

_HINT = "an image that carries a cache is read with `--cache-from type=registry,ref=IMAGE`, or by its name alone"


class InlineCache(CacheBackend):
    """Adds the records to the config of every image that the build makes."""

    name = "inline"
    in_image: ClassVar[bool] = True
    schema: ClassVar[Mapping[str, Any]] = {  # Any: JSON Schema
        "type": "object",
        "properties": {
            "mode": {"type": "string", "enum": ["min"], "description": "accepted: only layers of the image are saved"},
            "sign": {"type": "string", "description": "file with an Ed25519 private key to sign with"},
        },
        "additionalProperties": False,
    }

    def __init__(self, context: CacheContext, options: Mapping[str, Any]) -> None:  # Any: JSON
        super().__init__(context, options)
        self._key: SigningKey | None = None

    def check(self, *, export: bool) -> None:
        """Refuse an import, and a key that cannot be read."""
        if not export:
            raise UsageError("an inline cache is in an image, whose name is missing", hint=_HINT)
        if self.options.get("sign"):
            self._key = SigningKey(self.options["sign"])

    def load(self) -> CacheLoad:
        """Refuse: there is no place to look in."""
        raise Unsupported("an inline cache can only be written", hint=_HINT)

    def fetch(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        """Refuse: there is no place to look in."""
        raise Unsupported("an inline cache can only be written", hint=_HINT)

    def image_config(self, image: BuiltImage, records: Sequence[CacheRecord]) -> Mapping[str, Any]:  # Any: JSON
        """Return the records; those whose layers are all in *image* keep them."""
        blobs = {layer.diff_id: layer.descriptor for layer in image.layers()}

        def there(layers: tuple[CacheLayer, ...] | None) -> tuple[CacheLayer, ...] | None:
            if layers is None or any(layer.diff_id not in blobs for layer in layers):
                return None
            return tuple(replace(layer, descriptor=blobs[layer.diff_id]) for layer in layers)

        # Nothing that differs from build to build of equal inputs: the image would, too.
        carried = tuple(
            replace(record, layers=there(record.layers), last=record.created, seconds=0.0) for record in records
        )
        return config_entry(Body(carried), key=self._key)
