"""The Python API of img.

.. code-block:: python

    from img_core.api import Client

    client = Client()
    result = client.build(".", tags="app:1", build_args={"VERSION": "1.2"}, on_event=print)
    print(result.digest, result.cached_steps)

`AsyncClient` has the same methods for programs with an event loop; `build` is the shortest way to `Client().build`. Nothing is imported
before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Unpack

    from img_core.api._async import AsyncClient
    from img_core.api._cache_places import cache_places
    from img_core.api._client import Client
    from img_core.api._credentials import LoggedOut, server_name
    from img_core.api._given import BuildOptions, StrPath, Words
    from img_core.api._lock import Lock
    from img_core.api._push import refuse_id
    from img_core.api._request import BuildRequest, BuildResult, CachePlace, Limits, Output, SecretSource, SshAgent
    from img_core.api._values import (
        CacheContents,
        CachedStep,
        HistoryEntry,
        ImageDetails,
        LoadResult,
        PushResult,
        RecordedBuild,
        StateReport,
        StoredImage,
        Unpacked,
    )
    from img_core.linux.cancellation import CancelHandle
    from img_core.solver.failure import StepFailure
    from img_core.spec.errors import Canceled, ImgError
    from img_core.spec.frontend import BuildWarning
    from img_core.spec.progress import Event
    from img_core.store.fsck import Problem
    from img_core.store.usage import Piece

__all__ = [
    "AsyncClient",
    "BuildRequest",
    "BuildResult",
    "BuildWarning",
    "CacheContents",
    "CachePlace",
    "CachedStep",
    "CancelHandle",
    "Canceled",
    "Client",
    "HistoryEntry",
    "ImageDetails",
    "ImgError",
    "Limits",
    "LoadResult",
    "Lock",
    "LoggedOut",
    "Output",
    "Piece",
    "Problem",
    "PushResult",
    "RecordedBuild",
    "SecretSource",
    "SshAgent",
    "StateReport",
    "StepFailure",
    "StoredImage",
    "Unpacked",
    "build",
    "cache_places",
    "refuse_id",
    "server_name",
]

_HOMES = {
    "img_core.api._async": ("AsyncClient",),
    "img_core.api._cache_places": ("cache_places",),
    "img_core.api._client": ("Client",),
    "img_core.api._credentials": ("LoggedOut", "server_name"),
    "img_core.api._lock": ("Lock",),
    "img_core.linux.cancellation": ("CancelHandle",),
    "img_core.api._push": ("refuse_id",),
    "img_core.api._request": (
        "BuildRequest",
        "BuildResult",
        "CachePlace",
        "Limits",
        "Output",
        "SecretSource",
        "SshAgent",
    ),
    "img_core.api._values": (
        "CacheContents",
        "CachedStep",
        "HistoryEntry",
        "ImageDetails",
        "LoadResult",
        "PushResult",
        "RecordedBuild",
        "StateReport",
        "StoredImage",
        "Unpacked",
    ),
    "img_core.solver.failure": ("StepFailure",),
    "img_core.spec.errors": ("Canceled", "ImgError"),
    "img_core.spec.frontend": ("BuildWarning",),
    "img_core.store.fsck": ("Problem",),
    "img_core.store.usage": ("Piece",),
}


def __getattr__(name: str) -> Any:  # Any: whatever has that name
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def build(
    context: StrPath = ".",
    *,
    tags: Words = (),
    outputs: Output | Mapping[str, Any] | Iterable[Output | Mapping[str, Any]] = (),
    build_args: Mapping[str, str | None] | None = None,
    on_event: Callable[[Event], None] | None = None,
    cancel: CancelHandle | None = None,
    state: StrPath | None = None,
    **options: Unpack[BuildOptions],
) -> BuildResult:
    """Build an image from a Dockerfile: `Client.build` with a client of the state directory *state* (default: as the command line)."""
    from img_core.api._client import Client

    client = Client(state=state)
    return client.build(
        context, tags=tags, outputs=outputs, build_args=build_args, on_event=on_event, cancel=cancel, **options
    )
