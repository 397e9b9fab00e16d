"""What a driver of each kind has to be."""

from __future__ import annotations

from importlib import import_module

from img_core.spec.errors import UsageError
from img_core.spec.kinds import CONTRACTS, GROUPS, KINDS
from img_core.spec.text import suggestion

__all__ = ["ALWAYS_WITH_OPTIONS", "CONTRACT_VERSIONS", "PluginId", "contract", "parse_plugin_id"]

#: kind -> the version of its contract in `img_core.spec` that this core speaks; the first number of that package's version is the highest.
CONTRACT_VERSIONS = {**dict.fromkeys(KINDS, 1), "engine": 2}

#: Kinds whose drivers get their options by position, also if they declare none: so says version 1 of their contract.
ALWAYS_WITH_OPTIONS = frozenset({"exporter", "cache"})

PluginId = tuple[str, str]  #: kind and name


def contract(kind: str) -> type:
    """Return the class that a driver of *kind* must be derived from (for ``command``: be an instance of)."""
    module, _, name = CONTRACTS[kind].partition(":")
    found: type = getattr(import_module(module), name)
    return found


def parse_plugin_id(text: str, where: str) -> PluginId:
    """Parse ``kind:name`` (``kind:*`` means all of a kind) as written in *where*. Raises UsageError."""
    kind, colon, name = text.strip().partition(":")
    if not colon or not kind or not name:
        raise UsageError(f"`{text}` in {where} is not a plugin: expected `kind:name`, e.g. `executor:runc`")
    if kind not in GROUPS:
        raise UsageError(f"unknown kind of plugin `{kind}` in {where}", hint=suggestion(kind, KINDS))
    return kind, name
