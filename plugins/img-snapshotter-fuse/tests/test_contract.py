"""The snapshotter keeps the contract, as the one of the kernel does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

import pytest
from img_snapshotter_fuse._snapshotter import FuseSnapshotter

from img_core.spec.host import Host
from img_core.testing.contracts.snapshotter import SnapshotterContract

pytestmark = [
    pytest.mark.rootless,
    pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse may not be opened"),
]


class TestFuse(SnapshotterContract):
    """See `SnapshotterContract`."""

    snapshotter = FuseSnapshotter


class ProgramSnapshotter(FuseSnapshotter):
    """The same with the program in C."""

    def __init__(self, host: Host, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(host, {"program": "fuse-overlayfs", **(options or {})})


@pytest.mark.skipif(shutil.which("fuse-overlayfs") is None, reason="the program fuse-overlayfs is not installed")
class TestProgram(SnapshotterContract):
    """See `SnapshotterContract`."""

    snapshotter = ProgramSnapshotter
