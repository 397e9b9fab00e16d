"""The functions that files may call, as `docker buildx bake` lists them; less those that read files, ask networks or encrypt."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from img_core.cli.bake.hcl._operations import equal, item_of
from img_core.cli.bake.hcl._values import as_boolean, as_number, as_text, kind_of

__all__ = ["FUNCTIONS"]

# Any, below: values.

_WIDEST = 4  #: characters of a width in `format`
_EXACT = 4096  #: bits of a power that is no approximation
_VERB = re.compile(r"%([-+#0 ]*)(\d*)(\.\d+)?([a-zA-Z%])")


def _list(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, Mapping):
        return [value[key] for key in sorted(value)]
    raise ValueError(f"{kind_of(value)} is no list")


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{kind_of(value)} is no object")
    return value


def _texts(value: Any) -> list[str]:
    return [as_text(item) for item in _list(value)]


def _numbers(values: Sequence[Any]) -> list[int | float]:
    return [as_number(value) for value in values]


def _whole(value: Any) -> int:
    number = as_number(value)
    if number != int(number):
        raise ValueError(f"{number} is no whole number")
    return int(number)


def _first(*values: Any) -> Any:
    for value in values:
        if value is not None and value != "":
            return value
    raise ValueError("all values are empty")


def _first_list(*values: Any) -> list[Any]:
    for value in values:
        if _list(value):
            return _list(value)
    raise ValueError("all lists are empty")


def _chunks(value: Any, size: Any) -> list[list[Any]]:
    items, count = _list(value), _whole(size)
    if count < 0:
        raise ValueError(f"{count} is less than 0")
    return [items[at : at + count] for at in range(0, len(items), count)] if count else [items]


def _distinct(value: Any) -> list[Any]:
    found = list[Any]()
    for item in _list(value):
        if not any(equal(item, other) for other in found):
            found.append(item)
    return found


def _flat(value: Any) -> list[Any]:
    found = list[Any]()
    for item in _list(value):
        found += _flat(item) if isinstance(item, list | tuple) else [item]
    return found


def _merged(*values: Any) -> dict[str, Any]:
    return {key: item for value in values if value is not None for key, item in _object(value).items()}


def _has(value: Any, key: Any) -> bool:
    try:
        item_of(value, key)
    except ValueError:
        return False
    return True


def _place(value: Any, wanted: Any) -> int:
    for number, item in enumerate(_list(value)):
        if equal(item, wanted):
            return number
    raise ValueError("it is not in the list")


def _circular(value: Any, index: Any) -> Any:
    items = _list(value)
    if not items:
        raise ValueError("the list is empty")
    return items[_whole(index) % len(items)]


def _range(*values: Any) -> list[int | float]:
    numbers = _numbers(values)
    if not 1 <= len(numbers) <= 3:
        raise ValueError("1 to 3 values are needed")
    start, end = (0, numbers[0]) if len(numbers) == 1 else numbers[:2]
    step = numbers[2] if len(numbers) == 3 else 1 if end >= start else -1
    if step == 0 or ((end > start) != (step > 0) and end != start):
        raise ValueError("the step leads away from the end")
    count = max(0, math.ceil((end - start) / step))
    if count > 1024:
        raise ValueError("more than 1024 values")
    return [start + step * number for number in range(count)]


def _sliced(value: Any, start: Any, end: Any = None) -> list[Any]:
    items = _list(value)
    first, last = _whole(start), len(items) if end is None else _whole(end)
    if not 0 <= first <= last <= len(items):
        raise ValueError(f"a list of {len(items)} has nothing from {first} to {last}")
    return items[first:last]


def _substring(text: Any, offset: Any, length: Any) -> str:
    whole, start, count = as_text(text), _whole(offset), _whole(length)
    start = max(0, len(whole) + start) if start < 0 else start
    return whole[start:] if count == -1 else whole[start : start + count]


def _formatted(pattern: Any, *values: Any) -> str:
    """Return *values* in the places of *pattern*: ``%s``, ``%d``, ``%v``, ``%q``, ``%t``, ``%f``, … with widths."""
    left = list(values)

    def one(match: re.Match[str]) -> str:
        flags, width, digits, verb = match.groups()
        if verb == "%":
            return "%"
        if not left:
            raise ValueError(f"there is no value for `{match.group()}`")
        if any(len(number or "") > _WIDEST for number in (width, digits)):
            raise ValueError(f"`{match.group()}` is too wide")
        value = left.pop(0)
        spec = "%" + flags + width + (digits or "")
        if verb == "v":
            return (spec + "s") % (_json(value) if isinstance(value, list | Mapping) else as_text(value))
        if verb == "s":
            return (spec + "s") % as_text(value)
        if verb == "q":
            return (spec + "s") % json.dumps(as_text(value), ensure_ascii=False)
        if verb == "t":
            return (spec + "s") % as_text(as_boolean(value))
        if verb in "dxXo":
            return (spec + verb) % _whole(value)
        if verb == "b":
            return f"{_whole(value):b}".rjust(int(width or 0), "0" if "0" in flags else " ")
        if verb in "fFeEgG":
            return (spec + verb) % as_number(value)
        raise ValueError(f"`{match.group()}` is not known")

    text = _VERB.sub(one, as_text(pattern))
    if left:
        raise ValueError(f"there are {len(left)} values too many")
    return text


def _formatted_list(pattern: Any, *values: Any) -> list[str]:
    lengths = {len(value) for value in values if isinstance(value, list)}
    if len(lengths) > 1:
        raise ValueError("the lists are not equally long")
    count = lengths.pop() if lengths else 1
    return [
        _formatted(pattern, *(value[at] if isinstance(value, list) else value for value in values))
        for at in range(count)
    ]


def _pattern(text: Any) -> re.Pattern[str]:
    try:
        return re.compile(as_text(text))
    except re.error as err:
        raise ValueError(f"the pattern: {err}") from None


def _match(found: re.Match[str]) -> Any:
    if found.re.groupindex:
        return found.groupdict()
    return list(found.groups()) if found.re.groups else found.group()


def _regex(pattern: Any, text: Any) -> Any:
    found = _pattern(pattern).search(as_text(text))
    if not found:
        raise ValueError("the pattern is not in the text")
    return _match(found)


def _regex_replaced(text: Any, pattern: Any, new: Any) -> str:
    """Replace what *pattern* matches; ``$1``, ``${1}`` and ``${name}`` in *new* are its groups (regexp.Expand of Go)."""

    def fill(match: re.Match[str]) -> str:
        def group(name: re.Match[str]) -> str:
            if name.group() == "$$":
                return "$"
            wanted = name.group(1) or name.group(2)
            try:
                return match.group(int(wanted) if wanted.isdigit() else wanted) or ""
            except IndexError:
                return ""

        return re.sub(r"\$\$|\$\{(\w+)\}|\$(\w+)", group, as_text(new))

    return _pattern(pattern).sub(fill, as_text(text))


def _replaced(text: Any, old: Any, new: Any) -> str:
    return as_text(text).replace(as_text(old), as_text(new))


def _indented(spaces: Any, text: Any) -> str:
    return as_text(text).replace("\n", "\n" + " " * _whole(spaces))


def _titled(text: Any) -> str:
    return re.sub(r"(?<![^\W_])[^\W\d_]", lambda match: match.group().upper(), as_text(text))


def _sanitized(text: Any) -> str:
    """Replace what may not be in the name of a target."""
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", as_text(text))


def _json(value: Any) -> str:
    return json.dumps(_plain(value), separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in value}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _divided(left: Any, right: Any) -> int | float:
    found = as_number(left) / as_number(right)
    return int(found) if found.is_integer() else found


def _power(base: Any, exponent: Any) -> int | float:
    low, high = as_number(base), as_number(exponent)
    is_exact = isinstance(low, int) and isinstance(high, int) and high >= 0 and low.bit_length() * high <= _EXACT
    return low**high if is_exact else math.pow(low, high)


def _parsed(text: Any, base: Any) -> int:
    return int(as_text(text), _whole(base))


def _zipped(keys: Any, values: Any) -> dict[str, Any]:
    return dict(zip(_texts(keys), _list(values), strict=True))


def _sorted_set(values: Any) -> list[Any]:
    return sorted(_distinct(values), key=lambda item: (kind_of(item), item))


def _product(*values: Any) -> list[list[Any]]:
    import itertools

    return [list(item) for item in itertools.product(*map(_list, values))]


def _digest(name: str) -> Callable[[Any], str]:
    return lambda text: hashlib.new(name, as_text(text).encode(), usedforsecurity=False).hexdigest()


def _decoded(text: Any) -> str:
    return base64.b64decode(as_text(text), validate=True).decode()


def _logarithm(value: Any, base: Any) -> float:
    return math.log(as_number(value), as_number(base))


def _uuid() -> str:
    import uuid

    return str(uuid.uuid4())


def _timestamp() -> str:
    from img_core.cli.bake.hcl._times import now

    return now()


def _formatted_date(pattern: Any, time: Any) -> str:
    from img_core.cli.bake.hcl._times import formatted

    return formatted(as_text(pattern), as_text(time))


def _later(time: Any, duration: Any) -> str:
    from img_core.cli.bake.hcl._times import later

    return later(as_text(time), as_text(duration))


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    # of numbers
    "absolute": lambda value: abs(as_number(value)),
    "add": lambda left, right: as_number(left) + as_number(right),
    "ceil": lambda value: math.ceil(as_number(value)),
    "divide": _divided,
    "floor": lambda value: math.floor(as_number(value)),
    "greaterthan": lambda left, right: as_number(left) > as_number(right),
    "greaterthanorequalto": lambda left, right: as_number(left) >= as_number(right),
    "int": lambda value: int(as_number(value)),
    "lessthan": lambda left, right: as_number(left) < as_number(right),
    "lessthanorequalto": lambda left, right: as_number(left) <= as_number(right),
    "log": _logarithm,
    "max": lambda *values: max(_numbers(values)),
    "min": lambda *values: min(_numbers(values)),
    "modulo": lambda left, right: math.fmod(as_number(left), as_number(right)),
    "multiply": lambda left, right: as_number(left) * as_number(right),
    "negate": lambda value: -as_number(value),
    "parseint": _parsed,
    "pow": _power,
    "signum": lambda value: (as_number(value) > 0) - (as_number(value) < 0),
    "subtract": lambda left, right: as_number(left) - as_number(right),
    # of truth
    "and": lambda left, right: as_boolean(left) and as_boolean(right),
    "equal": equal,
    "not": lambda value: not as_boolean(value),
    "notequal": lambda left, right: not equal(left, right),
    "or": lambda left, right: as_boolean(left) or as_boolean(right),
    # of texts
    "base64decode": _decoded,
    "base64encode": lambda text: base64.b64encode(as_text(text).encode()).decode(),
    "basename": lambda path: os.path.basename(as_text(path).rstrip("/")) or ("/" if as_text(path) else "."),
    "byteslen": lambda text: len(as_text(text).encode()),
    "chomp": lambda text: as_text(text).rstrip("\r\n"),
    "dirname": lambda path: os.path.dirname(as_text(path)) or ".",
    "format": _formatted,
    "formatlist": _formatted_list,
    "indent": _indented,
    "join": lambda separator, *lists: as_text(separator).join(text for each in lists for text in _texts(each)),
    "lower": lambda text: as_text(text).lower(),
    "md5": _digest("md5"),
    "regex": _regex,
    "regex_replace": _regex_replaced,
    "regexall": lambda pattern, text: [_match(found) for found in _pattern(pattern).finditer(as_text(text))],
    "replace": _replaced,
    "reverse": lambda text: as_text(text)[::-1],
    "sanitize": _sanitized,
    "sha1": _digest("sha1"),
    "sha256": _digest("sha256"),
    "sha512": _digest("sha512"),
    "split": lambda separator, text: (
        as_text(text).split(as_text(separator)) if as_text(separator) else list(as_text(text))
    ),
    "strlen": lambda text: len(as_text(text)),
    "substr": _substring,
    "title": _titled,
    "trim": lambda text, characters: as_text(text).strip(as_text(characters)),
    "trimprefix": lambda text, prefix: as_text(text).removeprefix(as_text(prefix)),
    "trimspace": lambda text: as_text(text).strip(),
    "trimsuffix": lambda text, suffix: as_text(text).removesuffix(as_text(suffix)),
    "upper": lambda text: as_text(text).upper(),
    "urlencode": lambda text: quote(as_text(text), safe="~").replace("%20", "+"),
    # of lists and objects
    "chunklist": _chunks,
    "coalesce": _first,
    "coalescelist": _first_list,
    "compact": lambda value: [text for text in _list(value) if text],
    "concat": lambda *values: [item for value in values for item in _list(value)],
    "contains": lambda value, wanted: any(equal(item, wanted) for item in _list(value)),
    "distinct": _distinct,
    "element": _circular,
    "flatten": _flat,
    "hasindex": _has,
    "index": item_of,
    "indexof": _place,
    "jsondecode": lambda text: json.loads(as_text(text)),
    "jsonencode": _json,
    "keys": lambda value: sorted(_object(value)),
    "length": lambda value: len(value if isinstance(value, str) else _list(value)),
    "lookup": lambda value, key, *usual: (
        _object(value).get(as_text(key), *usual) if usual else item_of(_object(value), key)
    ),
    "merge": _merged,
    "range": _range,
    "reverselist": lambda value: _list(value)[::-1],
    "setproduct": _product,
    "setunion": lambda *values: _sorted_set([item for value in values for item in _list(value)]),
    "slice": _sliced,
    "sort": lambda value: sorted(_texts(value)),
    "values": lambda value: _list(_object(value)),
    "zipmap": _zipped,
    # of times and chance
    "formatdate": _formatted_date,
    "timeadd": _later,
    "timestamp": _timestamp,
    "uuidv4": _uuid,
}
