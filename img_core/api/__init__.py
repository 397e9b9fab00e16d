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

    from img_core.spec.progress import Event

__all__ = ["BuildRequest", "BuildResult", "Limits", "Output", "SecretSource", "SshAgent", "build"]


def build(
    context: str | os.PathLike[str] = ".",
    *,
    tags: Iterable[str] = (),
    outputs: Iterable[Output | Mapping[str, Any]] = (),
    build_args: Mapping[str, str | None] | None = None,
    on_event: Callable[[Event], None] | None = None,
    state: str | os.PathLike[str] | None = None,
    **options: Any,
) -> BuildResult:
    """Build an image from a Dockerfile.

    *context* is the directory of the build context. *outputs* are `Output` objects or mappings with the key ``type``, e.g.
    ``{"type": "oci", "dest": "app.tar"}``. *build_args* with the value None are taken from the environment. *on_event* is called with every
    progress event (`img_core.spec.progress`), from a thread of this call. *state* is the state directory (default: as the command line).
    *options* are further fields of `BuildRequest`.

    Raises ImgError; nothing half-made is left then.
    """
    from pathlib import Path

    from img_core.api._worker import run_in_worker

    request = BuildRequest(
        context=str(Path(context)),
        tags=tuple(tags),
        outputs=tuple(_output(item) for item in outputs),
        build_args=dict(build_args or {}),
        **options,
    )
    return run_in_worker(request, str(Path(state)) if state is not None else None, on_event)


def _output(item: Output | Mapping[str, Any]) -> Output:  # Any: JSON
    if isinstance(item, Output):
        return item
    options = dict(item)
    return Output(str(options.pop("type")), options)
