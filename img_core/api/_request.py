"""What a build is asked for, and what it gives."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from img_core.linux.cgroups import Limits
from img_core.spec.dataclass import dataclass

__all__ = ["BuildRequest", "BuildResult", "CachePlace", "Limits", "Output", "SecretSource", "SshAgent"]


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where a secret comes from: the file *path*, the environment variable *variable*, or the bytes themselves.

    For other places *type* is the name of a provider, and *options* say to it which secret it is.
    """

    path: str = ""
    variable: str = ""
    value: bytes | None = field(default=None, repr=False)
    type: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON


@dataclass(frozen=True, slots=True)
class SshAgent:
    """The socket of an agent that steps may use under an id."""

    path: str


@dataclass(frozen=True, slots=True)
class Output:
    """One ``-o``: an exporter's *type* and its *options*, as typed (text) or with their JSON types."""

    type: str
    options: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON


@dataclass(frozen=True, slots=True)
class CachePlace:
    """One ``--cache-from`` or ``--cache-to``: a cache driver's *type* and its *options*, as typed (text) or with their JSON types."""

    type: str
    options: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One build. All of it is plain data: a request can be sent to another process.

    *context* is a directory or a URL; steps see its *context_subdirectory*, the Dockerfile is looked up in the whole. *dockerfile* is a
    path (None: ``Dockerfile`` or ``dockerfile`` in the context); *definition* replaces it by the text itself. *platforms* are specifiers
    such as ``linux/arm64`` (empty: the host's). *build_args* with a None value are taken from the environment. *contexts* are named build
    contexts: directories, URLs, ``docker-image://…``, ``oci-layout://…``. *ssh* maps ids to the sockets of agents. *insecure_registries*
    are hosts that may be used without TLS or with a certificate from nobody; ``*``: all. *allow* lists entitlements:
    ``security.insecure`` lets steps ask for more rights, ``network.host`` for the host's network where *network* (``default``,
    ``none``, ``host``, ``private``, …; see `NetworkChoice`) keeps them from it. *frontend_options* are text, as typed, or JSON. Results are
    looked up in the places *cache_from* and saved in all places *cache_to*. *locked* is the path of a lock file (empty: that beside the
    definition): what it does not name is refused, what it names is taken at its digest. With *offline* no socket is opened for the build:
    images, files and repositories are those that are known here; the steps have the network that *network* gives them.
    *engine* (a name, perhaps with options: ``dask,address=…``) does parts of the build on other machines.
    """

    context: str = "."
    context_subdirectory: str = ""
    dockerfile: str | None = None
    definition: bytes | None = None
    tags: tuple[str, ...] = ()
    outputs: tuple[Output, ...] = ()
    build_args: Mapping[str, str | None] = field(default_factory=dict)
    target: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    platforms: tuple[str, ...] = ()
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    pull: bool = False
    network: str = "default"
    add_hosts: tuple[tuple[str, str], ...] = ()
    shm_size: int = 0
    ulimits: tuple[tuple[str, int, int], ...] = ()
    limits: Limits = field(default_factory=Limits)
    contexts: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, SecretSource] = field(default_factory=dict)
    ssh: Mapping[str, SshAgent] = field(default_factory=dict)
    insecure_registries: tuple[str, ...] = ()
    backend: str = "auto"
    executor: str = "auto"
    frontend: str = "auto"
    frontend_options: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    max_parallelism: int = 0
    allow: tuple[str, ...] = ()
    cache_from: tuple[CachePlace, ...] = ()
    cache_to: tuple[CachePlace, ...] = ()
    locked: str | None = None
    engine: str = ""
    offline: bool = False

    @property
    def title(self) -> str:
        """What the steps of this build are shown with where there are others."""
        words = (*self.tags, self.target, os.path.basename(os.path.abspath(self.context)))
        return next(filter(None, words), "build")


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A finished build. *digest* names the manifest (or the index of several platforms), if an exporter made one.

    *metadata* is what ``--metadata-file`` writes; *cached_steps* of *steps* were found in the cache. *build* is what `Client.logs` calls
    the log of this build; empty if there is none.
    """

    digest: str = ""
    config_digest: str = ""
    names: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    steps: int = 0
    cached_steps: int = 0
    warnings: tuple[str, ...] = ()
    build: str = ""
