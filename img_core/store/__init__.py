"""The state directory: blobs, images, snapshots, records, locks."""

from img_core.store.store import Store

__all__ = ["Store"]
