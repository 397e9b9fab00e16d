"""The kinds of plugins, their entry-point groups, and what a driver of each has to be."""

from __future__ import annotations

__all__ = ["CONTRACTS", "GROUPS", "KINDS", "LISTENER", "WITHOUT_OPTIONS"]

#: The kind of modules that listen to hooks instead of providing a driver.
LISTENER = "listener"

#: kind -> entry-point group, and where the class of its contract is; commands are click's, of which only the name is known here
_KINDS = {
    "frontend": ("img.frontends", "img_core.spec.frontend:Frontend"),
    "source": ("img.sources", "img_core.spec.source:Source"),
    "registry": ("img.registries", "img_core.spec.registry:Registry"),
    "executor": ("img.executors", "img_core.spec.executor:Executor"),
    "snapshotter": ("img.snapshotters", "img_core.spec.snapshotter:Snapshotter"),
    "exporter": ("img.exporters", "img_core.spec.exporter:Exporter"),
    "importer": ("img.importers", "img_core.spec.importer:Importer"),
    "credentials": ("img.credentials", "img_core.spec.credentials:CredentialStore"),
    "secret": ("img.secrets", "img_core.spec.secret:SecretProvider"),
    "cache": ("img.caches", "img_core.spec.cache:CacheBackend"),
    "engine": ("img.engines", "img_core.spec.engine:Engine"),
    "progress": ("img.progress", "img_core.spec.progress:Progress"),
    "command": ("img.commands", "click:Command"),
    LISTENER: ("img.plugins", ""),
}
GROUPS = {kind: group for kind, (group, _) in _KINDS.items()}
#: The kinds of drivers; the hook of each is called after it.
CONTRACTS = {kind: contract for kind, (_, contract) in _KINDS.items() if contract}
KINDS = tuple(GROUPS)

#: Kinds whose plugins take no options.
WITHOUT_OPTIONS = frozenset({"command", LISTENER})
