"""What a plugin is: errors, values, contracts and hook specifications. Imports nothing else of ours.

Names are loaded when first asked for: an exporter that imports `Exporter` from here does not pay for the build graph.
"""

from __future__ import annotations

from img_core.spec._lazy import names_from

TYPE_CHECKING = False  # see `img_core.linux.stdout`
if TYPE_CHECKING:
    from img_core.spec.cache import *  # noqa: F403
    from img_core.spec.credentials import *  # noqa: F403
    from img_core.spec.engine import *  # noqa: F403
    from img_core.spec.errors import *  # noqa: F403
    from img_core.spec.executor import *  # noqa: F403
    from img_core.spec.exporter import *  # noqa: F403
    from img_core.spec.frontend import *  # noqa: F403
    from img_core.spec.graph import *  # noqa: F403
    from img_core.spec.hooks import *  # noqa: F403
    from img_core.spec.host import *  # noqa: F403
    from img_core.spec.importer import *  # noqa: F403
    from img_core.spec.progress import *  # noqa: F403
    from img_core.spec.registry import *  # noqa: F403
    from img_core.spec.secret import *  # noqa: F403
    from img_core.spec.snapshotter import *  # noqa: F403
    from img_core.spec.source import *  # noqa: F403
    from img_core.spec.values import *  # noqa: F403

#: The names of each module that are public here: its ``__all__``, which tests keep equal to this, so that nothing is imported for it.
_HOMES = {
    "cache": "CACHE_MOUNT CacheBackend CacheContext CacheLayer CacheLoad CachePruned CacheRecord CacheReport",
    "credentials": "CredentialStore",
    "engine": "Engine EngineHandle EngineTask EngineWorker SharedBuild engine_schema",
    "errors": (
        "ArchiveError Canceled CredentialsError DockerfileError HostError ImgError IntegrityError "
        "NotFoundError PluginError RegistryError StateError StepError Unsupported UsageError"
    ),
    "executor": "Executor ExitStatus Mount OwnerRecord Process StepIO",
    "exporter": "Attestation BuiltImage BuiltLayer ExportProgress Exporter ImageStore LayerForm NamedImage Result Tree Writable",
    "frontend": "BaseImage BuildWarning Frontend HistoryEntry IgnoreNames Plan PlanRequest PlannedImage Resolver",
    "graph": (
        "CONTEXT_SCHEME IMAGE_SCHEME Copy FileAction FileOp Location MakeDirectory MergeOp Op RunAddition RunMount RunOp "
        "SourceOp Vertex WriteFile"
    ),
    "hooks": "DRIVER_HOOKS PROJECT hookimpl hookspec",
    "host": "Finding FindingStatus Host IdMapping Spawned Spawner",
    "importer": "ImportStream Importer LoadedImage",
    "progress": (
        "EVENT_VERSION Event Progress StepFinished StepLog StepPlanned StepStarted StepStatus TransferStatus "
        "WarningRaised"
    ),
    "registry": "Fetched Registries Registry RegistryContext Uploaded",
    "secret": "SECRET_LIMIT SecretProvider",
    "snapshotter": "Applied Changes LayerStream Rootfs Snapshotter",
    "source": "ImageSource PinnedImage PinnedTree Source SourceContext TreeSource",
    "values": "ChainId Credentials Descriptor DiffId Digest Platform",
}
#: Its first number is the version of the contracts, of which the libraries are a part; the second one is raised for what is new.
__version__ = "2.0"
__all__ = sorted(name for names in _HOMES.values() for name in names.split())

__getattr__ = names_from(__name__, {home: tuple(names.split()) for home, names in _HOMES.items()})
