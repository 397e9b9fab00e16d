"""Export images of img as squashfs file systems."""
