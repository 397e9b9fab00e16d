"""Policies: rules that are asked about each source, in the form of BuildKit's source policies (its ``sourcepolicy/pb/policy.proto``)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from img_core.spec.errors import ImgError, UsageError
from img_core.spec.text import redacted, show, why

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.spec import SourceOp

__all__ = ["Policy", "Rule", "read_policy"]

_ACTIONS = ("ALLOW", "DENY", "CONVERT")
_MATCH_TYPES = ("WILDCARD", "EXACT", "REGEX")
_CONDITIONS = ("EQUAL", "NOTEQUAL", "MATCHES")
#: BuildKit's attributes by scheme, and our options.
_ATTRIBUTES = {"http.checksum": ("https", "checksum"), "git.checksum": ("git", "checksum")}
_LIMIT = 4 << 20  # bytes of a file


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. *pattern* matches whole identifiers; *constraints* are attribute, condition and value."""

    action: str
    pattern: re.Pattern[str]
    constraints: tuple[tuple[str, str, str], ...] = ()
    identifier: str = ""  #: what a match becomes, with ``$1`` or ``${1}`` for the groups
    attributes: tuple[tuple[str, str], ...] = ()

    def matches(self, source: SourceOp) -> re.Match[str] | None:
        """Return the match of this rule with *source*, None if it is not about it."""
        found = self.pattern.search(source.identifier)
        return found if found and all(_holds(source, *constraint) for constraint in self.constraints) else None

    def convert(self, source: SourceOp, match: re.Match[str]) -> SourceOp:
        """Return what *source* becomes."""
        options = dict(source.options)
        for name, value in self.attributes:
            scheme, option = _ATTRIBUTES[name]
            if scheme == source.scheme:
                options[option] = value
        converted = _named(source, _expanded(self.identifier, match)) if self.identifier else source
        return replace(converted, options=tuple(options.items()))


@dataclass(frozen=True, slots=True)
class Policy:
    """The *rules* of one file, called *name*."""

    name: str
    rules: tuple[Rule, ...]

    def decide(self, source: SourceOp) -> SourceOp | None:
        """Return what *source* is converted to; None if it stays. Raises ImgError if it is denied.

        Of the rules ALLOW and DENY the last that matches counts; the first CONVERT that changes something ends it.
        """
        denied = False
        for rule in self.rules:
            match = rule.matches(source)
            if match is None:
                continue
            if rule.action == "CONVERT":
                converted = rule.convert(source, match)
                if converted != source:
                    return converted
            else:
                denied = rule.action == "DENY"
        if denied:
            raise ImgError(f"`{redacted(source.identifier)}` is denied by the source policy `{show(self.name)}`")
        return None


def _holds(source: SourceOp, attribute: str, condition: str, value: str) -> bool:
    scheme, option = _ATTRIBUTES[attribute]
    found = dict(source.options).get(option, "") if scheme == source.scheme else ""
    if condition == "MATCHES":
        return re.search(value, found) is not None
    return (found == value) is (condition == "EQUAL")


def _expanded(template: str, match: re.Match[str]) -> str:
    """Return *template* with what the groups of *match* are; ``$$`` is a dollar sign."""

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name is None:
            return "$"
        number = int(name)
        return (match[number] or "") if number <= match.re.groups else ""

    return re.sub(r"\$(?:(\d+)|\{(\d+)\}|\$)", value, template)


def _named(source: SourceOp, identifier: str) -> SourceOp:
    """Return *source* with another *identifier*: the opposite of `SourceOp.identifier`. Raises UsageError for another kind of source."""
    scheme, separator, rest = identifier.partition("://")
    if source.scheme == "https" and scheme in ("http", "https"):
        return replace(source, reference=identifier)
    if not separator or scheme != source.scheme:
        raise UsageError(
            f"a source policy cannot convert `{redacted(source.identifier)}` to `{show(redacted(identifier))}`",
            hint="both have to be of one kind",
        )
    if scheme == "git":
        own, has_own, _ = source.reference.partition("://")
        return replace(source, reference=f"{own}://{rest}" if has_own else rest)
    return replace(source, reference=rest)


# ------------------------------------------------------------------------------------------------------------- reading


@lru_cache(maxsize=4)
def read_policy(path: str) -> Policy:
    """Read a policy file. Raises UsageError for what is none: what cannot be understood must not be passed over."""
    shown = show(path)
    try:
        with open(path, "rb") as file:
            content = file.read(_LIMIT + 1)
    except OSError as err:
        raise UsageError(f"source policy `{shown}`: {why(err)}") from err
    try:
        document = json.loads(content[:_LIMIT])
        rules = tuple(map(_rule, _typed(document, "rules", list)))
    except (ValueError, RecursionError, re.error) as err:
        raise UsageError(f"source policy `{shown}` cannot be used: {show(str(err), limit=160)}") from None
    return Policy(path, rules)


def _rule(value: Any) -> Rule:  # Any: JSON
    _only(value, ("action", "selector", "updates"))
    action = _one_of(value.get("action", "ALLOW"), _ACTIONS, "action")
    selector, updates = _typed(value, "selector", dict), _typed(value, "updates", dict, {})
    _only(selector, ("identifier", "matchType", "constraints"))
    _only(updates, ("identifier", "attrs"))
    return Rule(
        action,
        _pattern(
            _typed(selector, "identifier", str),
            _one_of(selector.get("matchType", "WILDCARD"), _MATCH_TYPES, "matchType"),
        ),
        tuple(map(_constraint, _typed(selector, "constraints", list, []))),
        _typed(updates, "identifier", str, ""),
        _attributes(_typed(updates, "attrs", dict, {})),
    )


def _pattern(identifier: str, match_type: str) -> re.Pattern[str]:
    """Return what finds identifiers. The text itself always matches, as in BuildKit."""
    exact = re.escape(identifier)
    if match_type == "EXACT":
        return re.compile(rf"\A(?:{exact})\Z")
    if match_type == "REGEX":
        return re.compile(identifier)
    if "**" in identifier:
        raise ValueError(f"invalid wildcard in `{identifier}`: `**`")
    return re.compile(r"\A" + exact.replace(r"\*", "(.*)") + r"\Z", re.DOTALL)


def _constraint(value: Any) -> tuple[str, str, str]:  # Any: JSON
    _only(value, ("key", "value", "condition"))
    condition = _one_of(value.get("condition", "EQUAL"), _CONDITIONS, "condition")
    key, wanted = _typed(value, "key", str), _typed(value, "value", str, "")
    _one_of(key, tuple(_ATTRIBUTES), "attribute")
    if condition == "MATCHES":
        re.compile(wanted)
    return key, condition, wanted


def _attributes(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:  # Any: JSON
    for name in values:
        _one_of(name, tuple(_ATTRIBUTES), "attribute")
        _typed(values, name, str)
    return tuple(values.items())


def _typed(value: Any, key: str, kind: type, default: Any = None) -> Any:  # Any: JSON
    found = value.get(key, default) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        raise ValueError(f"`{key}` is missing or of another type")
    return found


def _only(value: Any, keys: tuple[str, ...]) -> None:  # Any: JSON
    if not isinstance(value, dict):
        raise ValueError("a rule is not an object")
    if unknown := sorted(set(value) - set(keys)):
        raise ValueError(f"unknown key `{unknown[0]}`; known: {', '.join(keys)}")


def _one_of(value: Any, known: tuple[str, ...], what: str) -> str:  # Any: JSON
    if value not in known:
        raise ValueError(f"unknown {what} `{value}`; known: {', '.join(known)}")
    return str(value)
