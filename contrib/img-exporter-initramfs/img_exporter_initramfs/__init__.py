"""Export images of img as initial RAM file systems of Linux."""
