"""Switching plugins off and on: who decides, and who decided.

A toggle file lists plugins as ``kind:name``; ``kind:*`` means all of a kind::

    disabled = ["executor:runc", "exporter:*"]
    enabled = ["exporter:oci"]
    locked = true            # only in /etc/img/plugins.d: later places cannot change what this file says

Within one file ``enabled`` wins over ``disabled`` and a name over ``*``. Files of a directory are read in the order of their names.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from img_core.files.places import names_in
from img_core.forms.toml import read_toml
from img_core.plugins._kinds import parse_plugin_id
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from img_core.config import Config, ToggleDirectory
    from img_core.plugins._kinds import PluginId

__all__ = ["DISABLED_VARIABLE", "Toggle", "Toggles"]

DISABLED_VARIABLE = "IMG_DISABLED_PLUGINS"

#: Variables of the original img that switch one plugin off when they are not empty.
_ALIASES = {"IMG_DISABLE_EMBEDDED_RUNC": ("executor", "runc-embedded")}


@dataclass(frozen=True, slots=True)
class Toggle:
    """A decision: *by* names the file, variable or flag that made it."""

    enabled: bool
    by: str
    locked: bool = False


_BUILT_IN = Toggle(enabled=True, by="built-in default")


class Toggles:
    """All decisions of one command, looked up by kind and name."""

    def __init__(self, config: Config) -> None:
        """Read every place. Raises UsageError for a bad file or value, and for ``--no-plugin`` of a plugin that is locked on."""
        self._decisions: dict[PluginId, Toggle] = {}
        for directory in config.toggle_directories:
            self._read_directory(directory)
        self._read_environment(config.environment)
        for text in config.no_plugins:
            self._switch_off_by_flag(text)

    def of(self, kind: str, name: str) -> Toggle:
        """Return what was decided about a plugin."""
        exact = self._decisions.get((kind, name))
        whole_kind = self._decisions.get((kind, "*"))
        if whole_kind is not None and whole_kind.locked and not (exact is not None and exact.locked):
            return whole_kind
        return exact or whole_kind or _BUILT_IN

    def _decide(self, plugin: PluginId, toggle: Toggle) -> None:
        if self.of(*plugin).locked and not toggle.locked:
            return
        if plugin[1] == "*":
            self._forget_names(plugin[0])
        self._decisions[plugin] = toggle

    def _forget_names(self, kind: str) -> None:
        """Let a later ``kind:*`` win over earlier decisions about single names, except locked ones."""
        for plugin in [key for key, toggle in self._decisions.items() if key[0] == kind and not toggle.locked]:
            del self._decisions[plugin]

    def _read_directory(self, directory: ToggleDirectory) -> None:
        for path in _toml_files(directory.path):
            document = read_toml(path)
            _check_keys(document, path)
            locked = document.get("locked", False)
            if locked and not directory.may_lock:
                raise UsageError(f"`locked` in {path} has no effect", hint="only files in /etc/img/plugins.d can lock")
            choices = [(False, name) for name in document.get("disabled", [])]
            choices += [(True, name) for name in document.get("enabled", [])]
            parsed = [(parse_plugin_id(text, path), enabled) for enabled, text in choices]
            for plugin, enabled in sorted(parsed, key=lambda choice: choice[0][1] != "*"):
                self._decide(plugin, Toggle(enabled=enabled, by=path, locked=bool(locked)))

    def _read_environment(self, environment: Mapping[str, str]) -> None:
        for variable, plugin in _ALIASES.items():
            if environment.get(variable):
                self._decide(plugin, Toggle(enabled=False, by=variable))
        for text in environment.get(DISABLED_VARIABLE, "").split(","):
            if text.strip():
                plugin = parse_plugin_id(text, DISABLED_VARIABLE)
                self._decide(plugin, Toggle(enabled=False, by=DISABLED_VARIABLE))

    def _switch_off_by_flag(self, text: str) -> None:
        plugin = parse_plugin_id(text, "--no-plugin")
        current = self.of(*plugin)
        if current.locked and current.enabled:
            raise UsageError(f"`{text}` cannot be switched off: it is locked by {current.by}")
        self._decide(plugin, Toggle(enabled=False, by="--no-plugin"))


def _toml_files(directory: str) -> Iterable[str]:
    try:
        return [os.path.join(directory, name) for name in names_in(directory) if name.endswith(".toml")]
    except OSError as err:
        raise UsageError(f"cannot read {directory}: {err.strerror}") from err


def _check_keys(document: Mapping[str, object], path: str) -> None:
    unknown = sorted(set(document) - {"disabled", "enabled", "locked"})
    if unknown:
        raise UsageError(f"unknown key `{unknown[0]}` in {path}", hint="known: `disabled`, `enabled`, `locked`")
    for key in ("disabled", "enabled"):
        value = document.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise UsageError(f"`{key}` in {path} must be a list of strings like `executor:runc`")
    if not isinstance(document.get("locked", False), bool):
        raise UsageError(f"`locked` in {path} must be true or false")
