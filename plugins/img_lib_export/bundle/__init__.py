"""Images as one file or directory: OCI image layouts and what ``docker save`` writes, in both directions.

The writer serves ``-o type=oci``, ``-o type=docker`` and ``img save``; the reader serves ``img load`` and trusts nothing:
every blob is verified against its digest, every layer against the diff id in its config. Who writes does not load what reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from img_lib_export.bundle._read import read_bundle
    from img_lib_export.bundle._write import write_directory, write_tar

__all__ = ["read_bundle", "write_directory", "write_tar"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{'_read' if name == 'read_bundle' else '_write'}"), name)
