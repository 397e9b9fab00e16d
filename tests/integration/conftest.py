"""Fixtures of the acceptance tests."""

from harness.fixtures import busybox_archive, containers, img, new_state, seed, server, workshop

__all__ = ["busybox_archive", "containers", "img", "new_state", "seed", "server", "workshop"]
