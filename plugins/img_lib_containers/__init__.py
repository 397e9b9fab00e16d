"""What executors share: containers, their mounts, seccomp filters and owners of files."""

__all__ = [
    "answering",
    "call_numbers",
    "containers",
    "covers",
    "fake_root",
    "identities",
    "identity_answers",
    "mountpoints",
    "oci_runtime",
    "owner_answers",
    "owner_calls",
    "owner_records",
    "owner_supervisor",
    "permissions",
    "program",
    "seccomp",
    "seccomp_rules",
    "shortcuts",
    "socket_calls",
    "spawning",
    "standing",
    "statuses",
    "supervised_calls",
    "unix_sockets",
]
__version__ = "2.0"
