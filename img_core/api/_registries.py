"""The registry driver that commands use: the first of the configured order that is installed and switched on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.plugins import AUTO
from img_core.spec.errors import HostError

if TYPE_CHECKING:
    from img_core.plugins import Plugins
    from img_core.spec.registry import Registry, RegistryContext

__all__ = ["open_registry"]


def open_registry(plugins: Plugins, context: RegistryContext) -> Registry:
    """Return a registry for one piece of work. Raises PluginError that says who switched the driver off."""
    order = plugins.candidates("registry", [AUTO])
    if not order:
        raise HostError("no registry driver is configured", hint="see `registry` in `[order]` of config.toml")
    usable = plugins.names("registry")
    made: Registry = plugins.make("registry", next((name for name in order if name in usable), order[0]), context)
    return made
