"""The kernel as this program uses it: system calls, mounts, user namespaces, processes, control groups and networks."""
