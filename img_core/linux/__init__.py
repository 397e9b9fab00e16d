"""The kernel as this program uses it: system calls, mounts, user namespaces, processes, control groups and networks."""

__all__ = [
    "binfmt",
    "boot",
    "cgroups",
    "exhausted",
    "mounts",
    "network",
    "parallel",
    "sandbox",
    "stdout",
    "syscalls",
    "userns",
    "zygote",
]
__version__ = "1.0"
