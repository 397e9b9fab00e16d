"""What exporters and importers of images share: assembling, repacking, bundles."""

__all__ = ["assemble", "attestations", "bundle", "clamp", "repack", "rootfs_options", "ticker"]
__version__ = "1.2"
