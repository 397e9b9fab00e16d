"""The snapshotter keeps the contract, as the one of the kernel does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

import pytest
from img_snapshotter_fuse._snapshotter import FuseSnapshotter

from img_core.spec.host import Host
from img_core.testing.contracts.snapshotter import Inside, SnapshotterContract, Work, _everything, _example

pytestmark = [
    pytest.mark.rootless,
    pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse may not be opened"),
]

_NO_LONG_NAMES = pytest.mark.xfail(reason="the program keeps four bytes of a name for itself", strict=True)


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

    @_NO_LONG_NAMES
    def test_remove_leaves_nothing(self, inside: Inside) -> None:
        """See the contract."""
        super().test_remove_leaves_nothing(inside)

    @_NO_LONG_NAMES
    def test_everything_survives_a_snapshot(self, inside: Inside) -> None:
        """See the contract."""
        super().test_everything_survives_a_snapshot(inside)

    @pytest.mark.parametrize("make", [_example, pytest.param(_everything, marks=_NO_LONG_NAMES)])
    def test_a_layer_gives_what_the_step_made(self, inside: Inside, make: Work) -> None:
        """See the contract."""
        super().test_a_layer_gives_what_the_step_made(inside, make)
