"""What executors share: containers, their mounts, seccomp filters and owners of files."""
