"""The Python API of img.

.. code-block:: python

    from img_core.api import build

    result = build(".", tags=["app:1"], build_args={"VERSION": "1.2"}, on_event=print)
    print(result.digest, result.cached_steps)

A build needs a user namespace, which a process can only enter while it has a single thread, and never leaves again. `build` therefore works
in a process of its own, unless a `Session` is given (the command line does that).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from img_core.api._request import BuildRequest, BuildResult, Limits, Output, SecretSource, SshAgent

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping
    from typing import Unpack

    from img_core.api._given import BuildOptions
    from img_core.spec.progress import Event

__all__ = ["BuildRequest", "BuildResult", "Limits", "Output", "SecretSource", "SshAgent", "build"]


def build(
    context: str | os.PathLike[str] = ".",
    *,
    tags: str | Iterable[str] = (),
    outputs: Output | Mapping[str, Any] | Iterable[Output | Mapping[str, Any]] = (),
    build_args: Mapping[str, str | None] | None = None,
    on_event: Callable[[Event], None] | None = None,
    state: str | os.PathLike[str] | None = None,
    **options: Unpack[BuildOptions],
) -> BuildResult:
    """Build an image from a Dockerfile.

    *context* is a directory, or a URL such as ``https://host/repository.git#branch``. One of several *tags* or *outputs* may be given
    alone. *outputs* are `Output` objects or mappings with the key ``type``, e.g. ``{"type": "oci", "dest": "app.tar"}``. *build_args*
    with the value None are taken from the environment. *on_event* is called with every progress event (`img_core.spec.progress`), from a
    thread of this call; if it raises, the build stops. *state* is the state directory (default: as the command line). *options* are
    further fields of `BuildRequest`.

    Raises ImgError (UsageError for a value of a wrong form); nothing half-made is left then.
    """
    import os

    from img_core.api._given import request_of
    from img_core.api._worker import run_in_worker

    request = request_of(context=context, tags=tags, outputs=outputs, build_args=build_args or {}, **options)
    return run_in_worker(request, os.fspath(state) if state is not None else None, on_event)
