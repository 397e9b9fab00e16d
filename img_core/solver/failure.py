"""A step that failed, as whoever wants to look at it gets it."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from img_core.spec.dataclass import dataclass

if TYPE_CHECKING:
    from img_core.spec.executor import StepIO

__all__ = ["StepFailure", "shell_of"]

_SHELL = "/bin/sh"


@dataclass(frozen=True, slots=True)
class StepFailure:
    """The step *step* (its digest), shown as *name*, failed for the reason *message*; its root file system is as it left it.

    *enter* runs a program there, with the mounts, environment, user and working directory of the step, and returns its exit status. It may
    be called again, until the function that got this returns. Of the `StepIO` *cancel_fd* does not count: what stops the build stops the
    program, too, and raises Canceled. *shell* is what the step itself was run by, or the usual one.
    """

    step: str
    name: str
    message: str
    shell: str
    enter: Callable[[Sequence[str], StepIO], int]


def shell_of(args: Sequence[str]) -> str:
    """Return the shell in *args* such as ``/bin/bash -o pipefail -c TEXT``; the usual one for a program that is none."""
    if len(args) > 2 and "-c" in args[1:-1] and posixpath.basename(args[0]).endswith("sh"):
        return args[0]
    return _SHELL
