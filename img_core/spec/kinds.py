"""The kinds of plugins and their entry-point groups."""

from __future__ import annotations

__all__ = ["GROUPS", "KINDS", "LISTENER", "WITHOUT_OPTIONS"]

#: The kind of modules that listen to hooks instead of providing a driver.
LISTENER = "listener"

#: kind -> entry-point group
GROUPS = {
    "frontend": "img.frontends",
    "source": "img.sources",
    "registry": "img.registries",
    "executor": "img.executors",
    "snapshotter": "img.snapshotters",
    "exporter": "img.exporters",
    "importer": "img.importers",
    "credentials": "img.credentials",
    "secret": "img.secrets",
    "cache": "img.caches",
    "engine": "img.engines",
    "progress": "img.progress",
    "command": "img.commands",
    LISTENER: "img.plugins",
}
KINDS = tuple(GROUPS)

#: Kinds whose plugins take no options.
WITHOUT_OPTIONS = frozenset({"command", LISTENER})
