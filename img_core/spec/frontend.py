"""Frontends: from a build definition, such as a Dockerfile, to a graph and image configs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from img_core.spec.dataclass import dataclass
from img_core.spec.errors import Unsupported
from img_core.spec.graph import inputs_first

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.spec.graph import Location, SourceOp, Vertex
    from img_core.spec.values import Digest, Platform

__all__ = [
    "BaseImage",
    "BuildWarning",
    "Frontend",
    "HistoryEntry",
    "IgnoreNames",
    "Plan",
    "PlanRequest",
    "PlannedImage",
    "Resolver",
]


@dataclass(frozen=True, slots=True)
class BaseImage:
    """What a frontend may know of an image that it builds on."""

    reference: str  #: normalised, with tag
    digest: Digest  #: of the manifest for the platform
    platform: Platform
    config: Mapping[str, Any]  #: the whole OCI image config document (config.md); Any: JSON


class Resolver(Protocol):
    """What a frontend may ask while it plans. Answers are stable within one build."""

    def expect(self, images: Sequence[tuple[str, Platform]]) -> None:
        """Hear which *images* `base_image` will be asked for, to look them up at the same time; voluntary, raises nothing."""

    def base_image(self, reference: str, platform: Platform) -> BaseImage:
        """Resolve an image (any spelling that Docker accepts). Raises NotFoundError, RegistryError, CredentialsError."""

    def context_kind(self, name: str) -> str | None:
        """Tell what a named build context is by the scheme of its source, e.g. `CONTEXT_SCHEME`; None if there is none."""

    def context_reference(self, name: str) -> str:
        """Return the value behind a named context without its scheme (an image reference, a path, a URL)."""

    def context_is_image(self, name: str) -> bool:
        """Tell whether the named context *name*, which exists, is an image (`Source.makes_image`)."""

    def source_time(self, op: SourceOp) -> int | None:
        """Return when the tree behind *op* was made (`TreeSource.modified`); ``local``/``context`` is the main context, also a remote one.

        None means that nobody can tell. Raises what pinning and fetching raise.
        """

    def why_missing(self, op: SourceOp, path: str, *, parents: bool) -> str | None:
        """Say in one line why a copy of *path* (absolute; `Copy.sources`) from the local context *op* would find nothing.

        None if it would find something, if *path* is a pattern, or if the context is not on this machine. Looks at the disk.
        """

    def ignore_file(self) -> str | None:
        """Return the text of the ignore file that filters the main context, or None if there is none."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """One build as the user asked for it.

    *definition* is the text of the build definition, *filename* its name for messages. *no_cache* is true for all stages;
    *no_cache_stages* names single ones. *labels* go into the last stage, literally. *network* and *extra_hosts* (``(name, address)``),
    *shm_size* (bytes) and *ulimits* (``(name, soft, hard)``) are defaults for every RUN. With *fixed_platform* somebody chose the
    *platforms*: an image says that it is for one of them, whatever it starts from; without, it says what its base does.
    """

    definition: bytes
    filename: str
    platforms: tuple[Platform, ...]
    build_platform: Platform
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    no_cache: bool = False
    no_cache_stages: tuple[str, ...] = ()
    network: str = "default"
    extra_hosts: tuple[tuple[str, str], ...] = ()
    shm_size: int = 0
    ulimits: tuple[tuple[str, int, int], ...] = ()
    hostname: str = ""
    fixed_platform: bool = False


@dataclass(frozen=True, slots=True)
class BuildWarning:
    """Something that works but should be changed; *rule* is the lint rule's name or empty."""

    message: str
    rule: str = ""
    location: Location | None = None
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One line of the image's history (OCI config.md). *vertex* made the layer; None for entries without one.

    *document* holds an entry of the base image word for word; it is used as it is and the other fields are ignored.
    """

    created_by: str = ""
    comment: str = ""
    vertex: Vertex | None = None
    document: Mapping[str, Any] | None = None  # Any: JSON
    author: str = ""


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One image of the result.

    *config* is the OCI image config without ``rootfs``, ``history`` and ``created``: the exporter side adds them from *root*'s layers and
    *history*. *root* None means an image without layers. *base* is the image that the final stage descends from, if any.
    """

    platform: Platform
    root: Vertex | None
    config: Mapping[str, Any]  # Any: JSON
    history: tuple[HistoryEntry, ...]
    base: BaseImage | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The result of planning: one image per requested platform, in the order of the request.

    *source_date_epoch* is in seconds since 1970 UTC, when the build fixes it. *multi_platform* asks for an index even of one image.
    """

    images: tuple[PlannedImage, ...]
    warnings: tuple[BuildWarning, ...] = ()
    source_date_epoch: int | None = None
    multi_platform: bool = False

    def roots(self) -> list[Vertex]:
        """Return the vertex of each image whose files something makes."""
        return [image.root for image in self.images if image.root is not None]

    def vertices(self) -> Iterator[Vertex]:
        """Give each vertex of all images once, inputs before what reads them."""
        return inputs_first(self.roots())


@dataclass(frozen=True, slots=True)
class IgnoreNames:
    """What files may be called that keep parts of the context out of a build, the best first.

    One that lies *beside* the build definition replaces those *within* the root of the context.
    """

    beside: tuple[str, ...] = ()
    within: tuple[str, ...] = ()


class Frontend(ABC):
    """Turns a build definition into a graph. One object serves one build; it does no I/O of its own.

    `plan` is called once, in the main thread, before anything runs. It raises DockerfileError for what the author can mend.
    """

    name: ClassVar[str]  #: the word that selects it (``dockerfile``)
    api: ClassVar[tuple[int, int]] = (1, 1)  #: lowest and highest contract version that it understands
    schema: ClassVar[Mapping[str, Any] | None] = None  #: JSON Schema of its options
    #: What its build definitions are called where nobody named one; the first that is in the context counts. Without any, ``-f`` is needed.
    definition_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        self.options = dict(options or {})

    @classmethod
    def ignore_names(cls, definition: str) -> IgnoreNames:
        """Return the names of ignore files for a build whose definition is the file *definition* (its last part; empty: in general)."""
        return IgnoreNames()

    @classmethod
    def context_options(cls, build_args: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """Return the options (`SourceOp.options`) with which a remote context is fetched when these build arguments were given."""
        return ()

    @classmethod
    def cache_exports(cls, build_args: Mapping[str, str]) -> tuple[str, ...]:
        """Return the types of caches (without options) that a build with these build arguments saves to, beside those of ``--cache-to``."""
        return ()

    def wanted(self, request: PlanRequest) -> str:
        """Return the name of another frontend that the definition asks for (``# syntax=``); empty if this one shall plan it.

        Asked first. If a frontend of that name is installed it takes over, else this one goes on and says what is wrong.
        """
        return ""

    @abstractmethod
    def plan(self, request: PlanRequest, resolver: Resolver) -> Plan:
        """Plan *request*."""

    def check(self, request: PlanRequest, resolver: Resolver) -> tuple[BuildWarning, ...]:
        """Return all findings about the definition, also in parts that *request* does not need (``--check``). Raises as `plan` does."""
        raise Unsupported(f"the frontend `{self.name}` cannot check build definitions")

    def outline(self, request: PlanRequest, resolver: Resolver) -> Mapping[str, Any]:  # Any: JSON
        """Return what the target takes from outside (``--call=outline``): ``name``, ``description``, ``args``, ``secrets``, ``ssh``."""
        raise Unsupported(f"the frontend `{self.name}` cannot outline build definitions")

    def targets(self, request: PlanRequest) -> Mapping[str, Any]:  # Any: JSON
        """Return what can be built (``--call=targets``): ``targets``, each with ``name``, ``description`` and ``default``."""
        raise Unsupported(f"the frontend `{self.name}` cannot list targets")

    def excerpt(self, request: PlanRequest, location: Location) -> str:
        """Return the source block that shows *location* of the definition, for errors of steps; empty if there is none."""
        return ""
