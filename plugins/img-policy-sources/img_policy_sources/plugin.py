"""Registers the listener ``source-policy``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from img_core.spec import hookimpl

if TYPE_CHECKING:
    from img_core.spec import SourceOp

VARIABLES = ("IMG_SOURCE_POLICY", "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY")


@hookimpl
def img_source_wanted(source: SourceOp) -> SourceOp | None:
    """Decide by the policy that a variable names. Raises ImgError."""
    path = next(filter(None, map(os.environ.get, VARIABLES)), None)
    if path is None:
        return None
    from img_policy_sources._policy import read_policy

    return read_policy(path).decide(source)
