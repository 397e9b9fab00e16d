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

from typing import TYPE_CHECKING, Any

from img_core.spec._lazy import names_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Unpack

    from img_core.api._async import *  # noqa: F403
    from img_core.api._cache_places import cache_places as cache_places
    from img_core.api._client import *  # noqa: F403
    from img_core.api._credentials import LoggedOut as LoggedOut
    from img_core.api._given import BuildOptions, StrPath, Words
    from img_core.api._registry_calls import refuse_id as refuse_id
    from img_core.api._request import *  # noqa: F403
    from img_core.api._request import BuildResult, Output
    from img_core.api._values import *  # noqa: F403
    from img_core.files.build_log import RecordedBuild as RecordedBuild
    from img_core.forms.lock import Lock as Lock
    from img_core.images.details import HistoryEntry as HistoryEntry
    from img_core.images.details import ImageDetails as ImageDetails
    from img_core.images.details import StoredImage as StoredImage
    from img_core.images.reference import server_name as server_name
    from img_core.linux.cancellation import CancelHandle as CancelHandle
    from img_core.solver.failure import StepFailure as StepFailure
    from img_core.spec.errors import Canceled as Canceled
    from img_core.spec.errors import ImgError as ImgError
    from img_core.spec.frontend import BuildWarning as BuildWarning
    from img_core.spec.progress import Event
    from img_core.store.fsck import Problem as Problem
    from img_core.store.usage import Piece as Piece

#: The names that are public here, by the modules in which they live: nothing is imported for them before it is used.
_HOMES = {
    "_async": "AsyncClient",
    "_cache_places": "cache_places",
    "_client": "Client CommandLine",
    "_credentials": "LoggedOut",
    "img_core.forms.lock": "Lock",
    "_registry_calls": "refuse_id",
    "_request": "BuildRequest BuildResult CachePlace Limits Output SecretSource SshAgent",
    "_values": "CacheContents CachedStep LoadResult PushResult StateReport Unpacked",
    "img_core.files.build_log": "RecordedBuild",
    "img_core.images.details": "HistoryEntry ImageDetails StoredImage",
    "img_core.images.reference": "server_name",
    "img_core.linux.cancellation": "CancelHandle",
    "img_core.solver.failure": "StepFailure",
    "img_core.spec.errors": "Canceled ImgError",
    "img_core.spec.frontend": "BuildWarning",
    "img_core.store.fsck": "Problem",
    "img_core.store.usage": "Piece",
}
__all__ = sorted(("build", *(name for names in _HOMES.values() for name in names.split())))

__getattr__ = names_from(__name__, {home: tuple(names.split()) for home, names in _HOMES.items()})


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
