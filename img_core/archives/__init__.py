"""Tar archives and compression, hostile input included."""

__all__ = ["codecs", "contexts", "directories", "flatten", "layers", "rootfs", "tar", "unpacking"]
__version__ = "1.3"
