"""Whole builds, on state directories that hold ``busybox``."""

from harness.fixtures import busybox_archive, new_state, seed
from img_core.testing.fixtures import registry

__all__ = ["busybox_archive", "new_state", "registry", "seed"]
