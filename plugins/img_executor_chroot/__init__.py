"""The executor for containers that may make no namespace and mount nothing: chroot, and a supervisor for what a /proc would tell."""
