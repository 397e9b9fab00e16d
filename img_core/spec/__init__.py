"""What a plugin is: errors, values, contracts and hook specifications. Imports nothing else of ours.

Names are loaded when first asked for: an exporter that imports `Exporter` from here does not pay for the build graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from img_core.spec.cache import (
        CacheBackend,
        CacheRecord,
    )
    from img_core.spec.credentials import (
        CredentialStore,
    )
    from img_core.spec.errors import (
        ArchiveError,
        Canceled,
        CredentialsError,
        DockerfileError,
        HostError,
        ImgError,
        IntegrityError,
        NotFoundError,
        PluginError,
        RegistryError,
        StateError,
        StepError,
        Unsupported,
        UsageError,
    )
    from img_core.spec.executor import (
        Executor,
        ExitStatus,
        Mount,
        OwnerRecord,
        Process,
        StepIO,
    )
    from img_core.spec.exporter import (
        BuiltImage,
        BuiltLayer,
        Exporter,
        ExportProgress,
        ImageStore,
        Result,
        Tree,
    )
    from img_core.spec.frontend import (
        BaseImage,
        BuildWarning,
        Frontend,
        HistoryEntry,
        Plan,
        PlannedImage,
        PlanRequest,
        Resolver,
    )
    from img_core.spec.graph import (
        Copy,
        FileAction,
        FileOp,
        Location,
        MakeDirectory,
        MergeOp,
        Op,
        RunMount,
        RunOp,
        SourceOp,
        Vertex,
        WriteFile,
    )
    from img_core.spec.hooks import (
        DRIVER_HOOKS,
        PROJECT,
        hookimpl,
        hookspec,
    )
    from img_core.spec.host import (
        Host,
        IdMapping,
        Spawned,
        Spawner,
    )
    from img_core.spec.progress import (
        EVENT_VERSION,
        Event,
        Progress,
        StepFinished,
        StepLog,
        StepStarted,
        StepStatus,
        WarningRaised,
    )
    from img_core.spec.snapshotter import (
        Applied,
        Changes,
        LayerStream,
        Rootfs,
        Snapshotter,
    )
    from img_core.spec.source import (
        ImageSource,
        PinnedImage,
        PinnedTree,
        Source,
        SourceContext,
        TreeSource,
    )
    from img_core.spec.values import (
        ChainId,
        Credentials,
        Descriptor,
        DiffId,
        Digest,
        Platform,
    )

_HOMES = {
    "cache": (
        "CacheBackend",
        "CacheRecord",
    ),
    "credentials": ("CredentialStore",),
    "errors": (
        "ArchiveError",
        "Canceled",
        "CredentialsError",
        "DockerfileError",
        "HostError",
        "ImgError",
        "IntegrityError",
        "NotFoundError",
        "PluginError",
        "RegistryError",
        "StateError",
        "StepError",
        "Unsupported",
        "UsageError",
    ),
    "executor": (
        "Executor",
        "ExitStatus",
        "Mount",
        "OwnerRecord",
        "Process",
        "StepIO",
    ),
    "exporter": (
        "BuiltImage",
        "BuiltLayer",
        "ExportProgress",
        "Exporter",
        "ImageStore",
        "Result",
        "Tree",
    ),
    "frontend": (
        "BaseImage",
        "BuildWarning",
        "Frontend",
        "HistoryEntry",
        "Plan",
        "PlanRequest",
        "PlannedImage",
        "Resolver",
    ),
    "graph": (
        "Copy",
        "FileAction",
        "FileOp",
        "Location",
        "MakeDirectory",
        "MergeOp",
        "Op",
        "RunMount",
        "RunOp",
        "SourceOp",
        "Vertex",
        "WriteFile",
    ),
    "hooks": (
        "DRIVER_HOOKS",
        "PROJECT",
        "hookimpl",
        "hookspec",
    ),
    "host": (
        "Host",
        "IdMapping",
        "Spawned",
        "Spawner",
    ),
    "progress": (
        "EVENT_VERSION",
        "Event",
        "Progress",
        "StepFinished",
        "StepLog",
        "StepStarted",
        "StepStatus",
        "WarningRaised",
    ),
    "snapshotter": (
        "Applied",
        "Changes",
        "LayerStream",
        "Rootfs",
        "Snapshotter",
    ),
    "source": (
        "ImageSource",
        "PinnedImage",
        "PinnedTree",
        "Source",
        "SourceContext",
        "TreeSource",
    ),
    "values": (
        "ChainId",
        "Credentials",
        "Descriptor",
        "DiffId",
        "Digest",
        "Platform",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # a test keeps this equal to `_HOMES`
    "DRIVER_HOOKS",
    "EVENT_VERSION",
    "PROJECT",
    "Applied",
    "ArchiveError",
    "BaseImage",
    "BuildWarning",
    "BuiltImage",
    "BuiltLayer",
    "CacheBackend",
    "CacheRecord",
    "Canceled",
    "ChainId",
    "Changes",
    "Copy",
    "CredentialStore",
    "Credentials",
    "CredentialsError",
    "Descriptor",
    "DiffId",
    "Digest",
    "DockerfileError",
    "Event",
    "Executor",
    "ExitStatus",
    "ExportProgress",
    "Exporter",
    "FileAction",
    "FileOp",
    "Frontend",
    "HistoryEntry",
    "Host",
    "HostError",
    "IdMapping",
    "ImageSource",
    "ImageStore",
    "ImgError",
    "IntegrityError",
    "LayerStream",
    "Location",
    "MakeDirectory",
    "MergeOp",
    "Mount",
    "NotFoundError",
    "Op",
    "OwnerRecord",
    "PinnedImage",
    "PinnedTree",
    "Plan",
    "PlanRequest",
    "PlannedImage",
    "Platform",
    "PluginError",
    "Process",
    "Progress",
    "RegistryError",
    "Resolver",
    "Result",
    "Rootfs",
    "RunMount",
    "RunOp",
    "Snapshotter",
    "Source",
    "SourceContext",
    "SourceOp",
    "Spawned",
    "Spawner",
    "StateError",
    "StepError",
    "StepFinished",
    "StepIO",
    "StepLog",
    "StepStarted",
    "StepStatus",
    "Tree",
    "TreeSource",
    "Unsupported",
    "UsageError",
    "Vertex",
    "WarningRaised",
    "WriteFile",
    "hookimpl",
    "hookspec",
]


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
