"""Become a command in a container as engines start it by default. Run as a program: JSON of an `Unmodified`, then the command.

Nothing is granted to the builder: the default filter of system calls, the default capabilities, a masked /proc, no namespaces and no
mounts. As real root this is what an engine does. An ordinary user does the same in a user namespace of his sub-ids, which makes the
container one with `hostUsers: false`: no device node can be made.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from img_core.linux import sandbox, syscalls, userns
from img_lib_containers import seccomp_rules

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # we are a program
from harness import prepared

_STAGE = Path("/mnt")
_USER_RANGE = {"containerID": 0, "hostID": 200_000, "size": 65_536}
#: what the image of the container has: the programs of this machine, and the few files that they read
_PROGRAMS = ("/usr", "/etc/alternatives", "/etc/ssl", "/etc/ld.so.cache", "/etc/nsswitch.conf", "/etc/localtime")
_MERGED_USR = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_DIRECTORIES = ("proc", "sys", "dev", "etc", "root", "run", "tmp", "var/tmp", "home", "opt", "srv", "mnt")
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hosts": "",
    "etc/resolv.conf": "",
}
_DEVICES = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2))

Wanted = dict[str, Any]  # Any: JSON of an Unmodified


def main() -> int:
    wanted, command = json.loads(sys.argv[1]), sys.argv[2:]
    identity = userns.enter()
    syscalls.mount("tmpfs", str(_STAGE), "tmpfs", 0, "mode=755")
    own_users = wanted["user_namespace"] and identity.mode == "root"  # else we are in one already
    owner = _USER_RANGE["hostID"] if own_users else 0
    image = Path(wanted["image"]) if wanted["image"] else make_image(wanted, owner)
    mount_root(image, Path(wanted["layer"]), owner, 0o777 if wanted["open_root"] else 0o755)
    bundle = _STAGE / "bundle"
    bundle.mkdir()
    config = configuration(wanted, command, own_users=own_users, real_root=identity.mode == "root")
    (bundle / "config.json").write_text(json.dumps(config))
    runc = ["runc", "--root", str(_STAGE / "runc"), "run", "--bundle", str(bundle), f"img-test-{uuid.uuid4().hex}"]
    return subprocess.call(runc)


def make_image(wanted: Wanted, owner: int) -> Path:
    """Make a small root file system of *owner*; the programs of this machine are mounted into it."""
    image = _STAGE / "image"
    if wanted["prepared"]:
        image.mkdir()
        os.chown(image, owner, owner)
        prepared.make(image, owner, owner + wanted["user"], owned=wanted["prepared"] == "owned")
        return image
    for name in _DIRECTORIES:
        (image / name).mkdir(parents=True)
    for name, content in _FILES.items():
        (image / name).write_text(content)
    for name in _MERGED_USR:
        if Path("/", name).is_symlink():
            (image / name).symlink_to(f"usr/{name}")
    for name in ("tmp", "var/tmp"):
        (image / name).chmod(0o1777)
    for directory, directories, files in os.walk(image):
        for name in ("", *directories, *files):
            os.chown(os.path.join(directory, name), owner, owner, follow_symlinks=False)
    return image


def mount_root(image: Path, layer: Path, owner: int, mode: int) -> None:
    """Mount an overlay as engines do: *image* below, the writable *layer* of *owner*, which is kept, on top."""
    merged = _STAGE / "merged"
    for name in ("upper", "work"):
        if not (layer / name).exists():
            (layer / name).mkdir(parents=True)
            (layer / name).chmod(mode)
            os.chown(layer / name, owner, owner)
    merged.mkdir()
    options = f"index=off,lowerdir={image},upperdir={layer}/upper,workdir={layer}/work"
    if os.stat("/proc/self/ns/user").st_ino != 0xEFFFFFFD:  # not the first user namespace
        options += ",userxattr"
    syscalls.mount("overlay", str(merged), "overlay", 0, options)


def configuration(wanted: Wanted, command: list[str], *, own_users: bool, real_root: bool) -> dict[str, Any]:
    """Return the OCI runtime configuration, as containerd and dockerd write it when they are told nothing."""
    held = [f"CAP_{name}" for name in wanted["capabilities"]]
    effective = held if wanted["user"] == 0 else []
    shown = {path: path for path in (*wanted["visible"], *(() if wanted["image"] else _PROGRAMS))}
    environment = environment_there(_STAGE / "merged", [*shown, *wanted["writable"], *dict(wanted["volumes"])])
    if wanted["prepared"]:
        command, environment = prepared.command_in(command), prepared.environment_in(environment)
    linux: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
        "maskedPaths": list(sandbox.MASKED_PATHS),
        "readonlyPaths": list(sandbox.READONLY_PATHS),
        "seccomp": seccomp_rules.oci_profile(os.uname().machine, with_32_bits=True),
    }
    if own_users:
        linux["namespaces"].append({"type": "user"})
        linux |= {"uidMappings": [_USER_RANGE], "gidMappings": [_USER_RANGE]}
    if real_root:
        linux["resources"] = {"devices": device_rules()}
    return {
        "ociVersion": "1.0.2",
        "hostname": "unmodified",
        "process": {
            "terminal": False,
            "user": {"uid": wanted["user"], "gid": wanted["user"]},
            "args": command,
            "cwd": "/",
            "env": [f"{name}={value}" for name, value in environment.items()],
            "capabilities": {"bounding": held, "effective": effective, "permitted": effective},
            "noNewPrivileges": wanted["no_new_privileges"],
        },
        "root": {"path": str(_STAGE / "merged"), "readonly": False},
        "mounts": mounts(
            prepared.visible() if wanted["prepared"] else shown,
            {prepared.place_of(path) if wanted["prepared"] else path: path for path in wanted["writable"]}
            | dict(wanted["volumes"]),
            group=real_root and not own_users,
        ),
        "linux": linux,
    }


def environment_there(root: Path, shown: list[str]) -> dict[str, str]:
    """Return our environment without what names a place that this machine has and the container lacks, such as TMPDIR."""

    def is_away(value: str) -> bool:
        if not value.startswith("/") or not os.path.exists(value):
            return False
        return not os.path.lexists(f"{root}{value}") and not any(Path(value).is_relative_to(path) for path in shown)

    return {name: value for name, value in os.environ.items() if not is_away(value)}


def device_rules() -> list[dict[str, Any]]:
    character = {"allow": True, "type": "c"}
    return [
        {"allow": False, "access": "rwm"},
        *({"allow": True, "type": kind, "access": "m"} for kind in "cb"),
        *({**character, "major": major, "minor": minor, "access": "rwm"} for major, minor in _DEVICES),
        {**character, "major": 136, "access": "rwm"},
    ]


def mounts(visible: dict[str, str], writable: dict[str, str], *, group: bool) -> list[dict[str, Any]]:
    def mount(target: str, kind: str, *options: str, source: str = "") -> dict[str, Any]:
        return {"destination": target, "type": kind, "source": source or kind, "options": [*options]}

    safe = ("nosuid", "noexec", "nodev")
    given = {place: source for place, source in visible.items() if os.path.exists(source)}
    return [
        mount("/proc", "proc", *safe),
        mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount(
            "/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *["gid=5"] * group
        ),
        mount("/sys", "bind", "rbind", *safe, "ro", source="/sys"),
        mount("/dev/shm", "tmpfs", *safe, "mode=1777", "size=65536k"),
        mount("/dev/mqueue", "mqueue", *safe),
        *(mount(place, "bind", "rbind", "ro", source=source) for place, source in given.items()),
        *(mount(place, "bind", "rbind", source=source) for place, source in writable.items()),
        *(mount(path, "bind", "rbind", "rprivate", source=path) for path in ("/etc/resolv.conf", "/etc/hosts")),
    ]


if __name__ == "__main__":
    sys.exit(main())
