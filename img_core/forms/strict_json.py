"""JSON of strangers, read so that two programs could not read it differently, and JSON of ours, in one form."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from img_core.spec.errors import IntegrityError
from img_core.spec.text import show

__all__ = ["DOCUMENT_LIMIT", "InvalidDocument", "canonical_json", "load_json"]

#: Largest document in bytes: the distribution spec asks registries for no larger manifest, index or config than this.
DOCUMENT_LIMIT = 4 * 1024 * 1024
_DEPTH_LIMIT = 32


class InvalidDocument(IntegrityError):
    """A manifest, index or config is not what the specification says, or two readers could disagree about it."""


def canonical_json(value: Any) -> bytes:  # Any: JSON
    """Return *value* as JSON with sorted keys and no spaces, in UTF-8: equal values give equal bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def load_json(content: bytes, *, name: str, limit: int = DOCUMENT_LIMIT) -> Any:  # Any: JSON
    """Read JSON that every reader understands in the same way; *name* says in messages what it is.

    Raises `InvalidDocument` for more than *limit* bytes, anything but UTF-8, repeated keys, numbers outside of
    JSON, lone surrogates and nesting deeper than 32.
    """
    if len(content) > limit:
        raise InvalidDocument(f"{name} has more than {limit} bytes")
    try:
        value = json.loads(
            content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_number, parse_float=_finite
        )
        _check_depth_and_text(value)
    except RecursionError:
        raise InvalidDocument(f"{name} is nested too deeply") from None
    except UnicodeDecodeError:
        raise InvalidDocument(f"{name} is not valid JSON: it is no text in UTF-8") from None
    except ValueError as error:  # includes JSONDecodeError and integers of absurd length
        raise InvalidDocument(f"{name} is not valid JSON: {show(str(error))}") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:  # Any: JSON
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {show(repeated)!r} appears twice")
    return value


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        _refuse_number(show(text, limit=40))
    return number


def _check_depth_and_text(value: Any) -> None:  # Any: JSON
    """Raise ValueError for lone surrogates, RecursionError for nesting beyond the limit."""
    pending = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, dict | list):
            if depth >= _DEPTH_LIMIT:
                raise RecursionError
            if isinstance(item, dict):
                for key in item:
                    _check_text(key)
            pending.extend((child, depth + 1) for child in (item.values() if isinstance(item, dict) else item))


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("a text contains half of a surrogate pair") from None
