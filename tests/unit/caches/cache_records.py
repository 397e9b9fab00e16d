"""Records for tests of caches."""

from __future__ import annotations

import hashlib
from typing import Any

from hypothesis import strategies as st

from img_core.images import oci
from img_core.spec.cache import CacheLayer, CacheRecord
from img_core.spec.values import Descriptor, DiffId, Digest

__all__ = ["hexadecimal", "layer", "record", "records"]


def hexadecimal(text: str) -> str:
    """Return a word of 64 hexadecimal digits that stands for *text*."""
    return hashlib.sha256(text.encode()).hexdigest()


def layer(name: str, *, size: int = 10, created: float = 1.5, media_type: str = oci.OCI_LAYER_GZIP) -> CacheLayer:
    """Return a layer with a blob that nobody has."""
    descriptor = Descriptor(media_type, Digest(f"sha256:{hexadecimal('blob ' + name)}"), size)
    return CacheLayer(descriptor, DiffId(f"sha256:{hexadecimal(name)}"), created)


def record(name: str, *layers: CacheLayer, **more: Any) -> CacheRecord:
    """Return the record of a step called *name*."""
    key = hexadecimal(name)
    fields = {"created": 1000.25, "last": 2000.0, "base": f"sha256:{hexadecimal('base')}", **more}
    return CacheRecord(key=key, definition=hexadecimal("definition " + name), identity=key, layers=layers, **fields)


_names = st.text("abc", min_size=1, max_size=2)
_times = st.floats(0, 4e9) | st.integers(0, 4_000_000_000).map(float)
_words = _names.map(hexadecimal)
_texts = st.text(max_size=20)
_layers = st.builds(
    layer, _names, size=st.integers(0, 2**40), created=_times,
    media_type=st.sampled_from([oci.OCI_LAYER, oci.OCI_LAYER_GZIP, oci.OCI_LAYER_ZSTD, oci.DOCKER_LAYER_GZIP]),
)  # fmt: skip

#: Lists of records that share keys, bases, layers and parts of stacks.
records = st.lists(
    st.builds(
        CacheRecord,
        key=_words,
        definition=_words,
        identity=_words,
        base=st.just("") | _words,
        layers=st.none() | st.lists(_layers, max_size=4).map(tuple),
        created=_times,
        last=_times,
        seconds=_times,
        platform=st.sampled_from(["", "linux/amd64", "linux/arm64/v8"]),
        description=_texts,
        inputs=st.lists(st.tuples(_texts, _texts), max_size=3).map(tuple),
        trees=st.lists(st.tuples(_words, _words), max_size=3).map(tuple),
    ),
    max_size=12,
)
