"""The kernel as this program uses it: system calls, mounts, user namespaces, processes and their end, control groups and networks."""

__all__ = [
    "apart",
    "binfmt",
    "boot",
    "cancellation",
    "cgroups",
    "children",
    "dialogue",
    "exhausted",
    "line_process",
    "mounts",
    "network",
    "parallel",
    "pipes",
    "private_files",
    "programs",
    "sandbox",
    "scheduler",
    "spans",
    "ssh_relay",
    "stdout",
    "syscalls",
    "userns",
    "worker",
    "zygote",
]
__version__ = "1.3"
