"""The native snapshotter."""

from __future__ import annotations

from typing import ClassVar

from img_lib_layers.copies import CopySnapshotter

__all__ = ["NativeSnapshotter"]


class NativeSnapshotter(CopySnapshotter):
    """Snapshots that are whole trees."""

    name: ClassVar[str] = "native"
