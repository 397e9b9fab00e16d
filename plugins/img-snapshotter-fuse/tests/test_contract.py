"""The snapshotter keeps the contract, as the one of the kernel does."""

from __future__ import annotations

import os

import pytest

from img_core.testing.contracts.snapshotter import SnapshotterContract
from img_snapshotter_fuse._snapshotter import FuseSnapshotter

pytestmark = [
    pytest.mark.rootless,
    pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse may not be opened"),
]


class TestFuse(SnapshotterContract):
    snapshotter = FuseSnapshotter
