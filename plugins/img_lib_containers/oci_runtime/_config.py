"""The OCI runtime configuration of a step, as small as it can be.

We are in a user namespace already, so the runtime gets no user namespace, no id mappings and no cgroup to set up.
See the OCI runtime specification, ``config.md`` and ``config-syscalls.md``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from img_core.linux import sandbox, syscalls
from img_lib_containers import seccomp_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_core.spec.executor import Process

__all__ = ["BoundMount", "Surroundings", "runtime_config"]

Json = dict[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True)
class BoundMount:
    """A mount that the runtime's supervisor has attached at *source*, to be seen at *target*."""

    source: str
    target: str
    readonly: bool


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the host and the place of the bundle decide."""

    root: str  #: where the supervisor attaches the root file system
    system: str  #: where it attaches a recursively read-only copy of /sys
    mounts: Sequence[BoundMount]
    single: bool  #: only one id is mapped
    devices_open: bool = False  #: nothing keeps the step from opening the devices that it makes
    with_32_bits: bool = False  #: the step's program is one of the processor's 32-bit mode
    apt_config: str = ""  #: a file to be named by APT_CONFIG, or empty
    terminal: os.terminal_size | None = None  #: the runtime has a terminal of this size, and makes one that follows it


def runtime_config(process: Process, around: Surroundings) -> Json:
    """Return the content of ``config.json`` for *process*."""
    insecure = process.security == "insecure"
    return {
        "ociVersion": "1.0.2",
        "hostname": process.hostname,
        "root": {"path": around.root, "readonly": False},
        "process": _process(process, around, insecure=insecure),
        "mounts": _mounts(process, around, insecure=insecure),
        "linux": _linux(process, around, insecure=insecure),
    }


def _process(process: Process, around: Surroundings, *, insecure: bool) -> Json:
    capabilities = _capabilities(around, insecure=insecure)
    held = capabilities if insecure or around.single or process.uid == 0 else []
    handed_down = capabilities if insecure else []
    # The runtime resolves programs by this PATH; without one it finds nothing.
    environment = dict(process.env)
    if around.apt_config:
        environment["APT_CONFIG"] = around.apt_config
    user = {
        "uid": process.uid,
        "gid": process.gid,
        "additionalGids": list(process.groups),
        "umask": process.umask,
    }
    return {
        "terminal": around.terminal is not None,
        **({"consoleSize": _console_size(around.terminal)} if around.terminal else {}),
        "user": user,  # with a single id the supervisor of owners answers the runtime, too
        "args": list(process.args),
        "env": [f"{name}={value}" for name, value in environment.items()],
        "cwd": process.cwd,
        "capabilities": {
            "bounding": capabilities,
            "effective": held,
            "permitted": held,
            "inheritable": handed_down,
            "ambient": handed_down,
        },
        "rlimits": [
            {"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard} for name, soft, hard in process.ulimits
        ],
        "noNewPrivileges": False,
    }


def _capabilities(around: Surroundings, *, insecure: bool) -> list[str]:
    names = sandbox.ALL_CAPABILITIES if insecure else sandbox.DEFAULT_CAPABILITIES
    held = sandbox.held_capabilities()
    refused = {"MKNOD"} if around.devices_open and not insecure else set()
    return [f"CAP_{name}" for name in names if held >> sandbox.ALL_CAPABILITIES.index(name) & 1 and name not in refused]


def _console_size(size: os.terminal_size) -> Json:
    """Return what crun wants to be told; runc asks its own terminal."""
    return {"height": size.lines, "width": size.columns}


def _mounts(process: Process, around: Surroundings, *, insecure: bool) -> list[Json]:
    """Return all mounts; the step's own at a place of the system's replaces it and does not lie on top."""
    given = _given_mounts(around)
    taken = {mount["destination"] for mount in given}
    return [
        *(mount for mount in _system_mounts(process, around, insecure=insecure) if mount["destination"] not in taken),
        *given,
    ]


def _system_mounts(process: Process, around: Surroundings, *, insecure: bool) -> list[Json]:
    safe = ["nosuid", "noexec", "nodev"]
    terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    if not around.single:
        terminals.append("gid=5")
    private = process.network != "host"
    return [
        _mount("/proc", "proc", "proc", safe),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", "devpts", terminals),
        _mount("/dev/shm", "tmpfs", "shm", [*safe, "mode=1777", f"size={process.shm_size}"]),  # noqa: S108
        _mount("/dev/mqueue", "mqueue", "mqueue", safe),
        _mount("/sys", "sysfs", "sysfs", [*safe, "rw" if insecure else "ro"])
        if private
        else _mount("/sys", "bind", around.system, [*safe, "rbind", "rw" if insecure else "ro"]),
    ]


def _given_mounts(around: Surroundings) -> list[Json]:
    # Where the supervisor attached them they are read-only with all that is below; crun undoes that at the top unless told.
    return [
        _mount(
            os.path.normpath(mount.target),
            "bind",
            mount.source,
            ["rbind", "rprivate", *(["ro"] if mount.readonly else ["rw"])],
        )
        for mount in around.mounts
    ]


def _mount(destination: str, kind: str, source: str, options: list[str]) -> Json:
    return {"destination": destination, "type": kind, "source": source, "options": options}


def _linux(process: Process, around: Surroundings, *, insecure: bool) -> Json:
    # A network of its own has been joined already, by the supervisor.
    kinds = ["pid", "ipc", "uts", "mount", "cgroup", *(["network"] if process.network == "none" else [])]
    section: Json = {"namespaces": [{"type": kind} for kind in kinds]}
    if insecure:
        return section
    section |= {"maskedPaths": list(sandbox.MASKED_PATHS), "readonlyPaths": list(sandbox.READONLY_PATHS)}
    profile = seccomp_rules.oci_profile(syscalls.MACHINE, with_32_bits=around.with_32_bits)
    if profile is not None:
        section["seccomp"] = profile
    return section
