"""What executors share: containers, their mounts, seccomp filters and owners of files."""

__all__ = [
    "containers",
    "mountpoints",
    "oci_runtime",
    "owner_calls",
    "owner_supervisor",
    "program",
    "seccomp",
    "seccomp_rules",
    "socket_calls",
]
__version__ = "1.1"
