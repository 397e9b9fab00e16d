"""What the log of a build tells of its request."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from img_core.files import fs
from img_core.spec.text import redacted

if TYPE_CHECKING:
    from img_core.api._request import BuildRequest
    from img_core.spec.host import Host

__all__ = ["described"]


def described(request: BuildRequest, host: Host) -> dict[str, Any]:  # Any: JSON
    """Return what a listing of builds tells of *request*: no values of build arguments, no passwords of addresses; ``-`` for standard
    input, which is in a run directory of *host*."""
    context = request.context if "://" in request.context else os.path.abspath(request.context)
    given = request.definition is not None
    return {
        "context": "-" if _is_within(context, host.run_directory) else fs.show(redacted(context)),
        "definition": "-" if given else fs.show(redacted(request.dockerfile or "")),
        "target": request.target,
        "tags": list(request.tags),
    }


def _is_within(path: str, directory: str) -> bool:
    return bool(directory) and path.startswith(f"{directory}/")
