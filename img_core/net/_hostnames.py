"""Host names as the system wants them: Python encodes each, to look it up and to greet a TLS server, with tables that few names need."""

from __future__ import annotations

import codecs
import sys
from importlib import import_module
from typing import Any

from img_core.linux.later import Later, standing_in

__all__ = ["prepare"]

_CODEC = "encodings.idna"
_LONGEST = 63  #: bytes of a label, RFC 1035 section 2.3.4


def prepare() -> None:
    """Let names of ASCII be encoded without the tables for others, 2 ms of each transfer; they are loaded with the first of those."""
    if _CODEC not in sys.modules:
        with standing_in(
            [Later(_CODEC, {"getregentry": _codec, "getaliases": tuple})]
        ):  # what `encodings` asks each for
            codecs.lookup("idna")


def _codec() -> codecs.CodecInfo:
    return codecs.CodecInfo(
        _encoded,
        _decoded,
        incrementalencoder=_made("IncrementalEncoder"),
        incrementaldecoder=_made("IncrementalDecoder"),
        streamreader=_made("StreamReader"),
        streamwriter=_made("StreamWriter"),
        name="idna",
    )


def _encoded(text: str, errors: str = "strict") -> tuple[bytes, int]:
    *labels, last = text.split(".")
    if text.isascii() and all(0 < len(label) <= _LONGEST for label in labels) and len(last) <= _LONGEST:
        return text.encode("ascii"), len(text)  # as RFC 3490 section 4.1 leaves it
    encoded: tuple[bytes, int] = _real().Codec().encode(text, errors)
    return encoded


def _decoded(data: Any, errors: str = "strict") -> tuple[str, int]:  # Any: bytes or what has some
    decoded: tuple[str, int] = _real().Codec().decode(data, errors)
    return decoded


def _made(name: str) -> Any:  # Any: a class, or what makes its objects
    return lambda *given, **named: getattr(_real(), name)(*given, **named)


def _real() -> Any:  # Any: the module of the standard library
    return import_module(_CODEC)
