"""Images as one file or directory: OCI image layouts and what ``docker save`` writes, in both directions.

The writer serves ``-o type=oci``, ``-o type=docker`` and ``img save``; the reader serves ``img load`` and trusts nothing:
every blob is verified against its digest, every layer against the diff id in its config.
"""

from __future__ import annotations

from img_lib_export.bundle._read import read_bundle
from img_lib_export.bundle._write import write_directory, write_tar

__all__ = ["read_bundle", "write_directory", "write_tar"]
