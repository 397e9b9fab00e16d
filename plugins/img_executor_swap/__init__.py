"""The executor for the root of a container that may not even chroot: the tree of the step takes the place of the root directory."""
