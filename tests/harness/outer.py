"""Become a command in the surrounding that a `harness.situations.Situation` describes. Run as a program: JSON, then the command.

An ordinary user's sub-ids are enough: a user namespace in which the own id keeps its number, id 0 and the others are sub-ids. In it
we are root for as long as the stage takes to set, then only what the situation grants.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

from img_core.linux import sandbox, syscalls
from img_core.linux.userns import sub_id_ranges
from img_lib_containers import seccomp

_ROOT_IDS = 1000  # of the sub-ids, for ids of the surrounding from 0 on
_FURTHER_IDS = 100_000  # from here on the rest of them, which its /etc/subuid gives to the user

_COVERED_FILES = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/latency_stats", "/proc/sched_debug")
_COVERED_DIRECTORIES = ("/proc/acpi", "/proc/scsi", "/sys/firmware")
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_NODES = ("null", "zero", "full", "random", "urandom", "tty")
_STAGE = Path("/mnt")
_VOLUME = _STAGE / "volume"  # VOLUME of harness.situations

Wanted = dict[str, Any]  # Any: JSON of a Situation


def main() -> NoReturn:
    wanted, command = json.loads(sys.argv[1]), sys.argv[2:]
    uid, gid = os.getuid(), os.getgid()
    enter_user_namespace(uid, gid)
    syscalls.unshare(syscalls.CLONE_NEWPID)
    child = os.fork()
    if child:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda received, _frame: os.kill(child, received))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.exit(code if code >= 0 else 128 - code)
    os.setresgid(0, 0, 0)
    os.setgroups([])
    os.setresuid(0, 0, 0)
    set_stage(wanted, uid, gid)
    restrict(wanted, uid, gid)
    os.execvpe(command[0], command, environment(wanted))


def enter_user_namespace(uid: int, gid: int) -> None:
    """Keep our own id, map sub-ids around it."""
    ready, go = os.pipe()
    target = os.getpid()
    helper = os.fork()
    if helper == 0:
        os.close(go)
        os.read(ready, 1)
        for tool, kind, own in (("newgidmap", "gid", gid), ("newuidmap", "uid", uid)):
            subprocess.run([tool, str(target), *map(str, id_map(kind, own, uid))], check=True)
        os._exit(0)
    os.close(ready)
    syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    os.close(go)
    if os.waitpid(helper, 0)[1]:
        sys.exit("cannot map sub-ids for the surrounding")


def id_map(kind: str, own: int, uid: int) -> list[int]:
    """Return (inside, outside, count) of three ranges: system ids, our own, and what the surrounding gives away again."""
    import pwd

    start, count = sub_id_ranges(f"/etc/sub{kind}", user=pwd.getpwuid(uid).pw_name, uid=uid)[0]
    return [0, start, _ROOT_IDS, own, own, 1, _FURTHER_IDS, start + _ROOT_IDS, count - _ROOT_IDS]


# --- the stage --------------------------------------------------------------------------------------------------------


def set_stage(wanted: Wanted, uid: int, gid: int) -> None:
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("tmpfs", str(_STAGE), "tmpfs", 0, "mode=755")
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    give_ids(wanted["id_tools"], str(uid) if wanted["sub_ids"] else "somebody")
    if wanted["overlay"]:
        cover_with_overlay(wanted["overlay"])
    if wanted["volume"]:
        kind = "tmpfs" if wanted["attributes"] else "ramfs"
        flags = 0 if wanted["executable"] else syscalls.MS_NOEXEC | syscalls.MS_NOSUID | syscalls.MS_NODEV
        fill_volume(kind, flags, wanted["volume"], *((0, 0) if wanted["user"] == "root" else (uid, gid)))
    if not wanted["cgroups"]:
        syscalls.mount("tmpfs", "/sys/fs/cgroup", "tmpfs")
        make_readonly("/sys")
    if wanted["small_dev"]:
        make_small_dev()
    if not wanted["runtime_directory"]:
        syscalls.mount("tmpfs", "/run", "tmpfs", syscalls.MS_RDONLY)
    if not wanted["namespaces"]:
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
    if wanted["masked_proc"]:
        mask()


def give_ids(tools: str, owner: str) -> None:
    """Hand the further ids to *owner*, with tools of the surrounding: those of the host are nobody's here."""
    for kind in ("uid", "gid"):
        table = _STAGE / f"sub{kind}"
        count = Path(f"/proc/self/{kind}_map").read_text().split()[-1]
        table.write_text(f"{owner}:{_FURTHER_IDS}:{count}\n")
        bind(table, f"/etc/sub{kind}")
        tool = shutil.which(f"new{kind}map") or sys.exit(f"this host lacks `new{kind}map`")
        if tools == "missing":
            bind("/dev/null", tool)
            continue
        copy = _STAGE / f"new{kind}map"
        shutil.copyfile(tool, copy)
        copy.chmod(0o4755 if tools == "setuid" else 0o755)
        if tools == "capable":
            capability = syscalls.CAP_SETUID if kind == "uid" else syscalls.CAP_SETGID
            # struct vfs_cap_data, revision 2, effective; the kernel adds our root id
            os.setxattr(copy, "security.capability", struct.pack("<5I", 0x02000001, 1 << capability, 0, 0, 0))
        bind(copy, tool)


def cover_with_overlay(path: str) -> None:
    """Put an overlay on *path*, whose changes are kept in memory."""
    changes = _STAGE / "changes"
    for name in ("upper", "work"):
        (changes / name).mkdir(parents=True)
    info = os.stat(path)
    os.chown(changes / "upper", info.st_uid, info.st_gid)
    os.chmod(changes / "upper", info.st_mode)
    options = f"lowerdir={path},upperdir={changes}/upper,workdir={changes}/work,userxattr"
    syscalls.mount("overlay", path, "overlay", 0, options)


def fill_volume(kind: str, flags: int, source: str, uid: int, gid: int) -> None:
    _VOLUME.mkdir()
    syscalls.mount(kind, str(_VOLUME), kind, flags, "mode=755")
    shutil.copytree(source, _VOLUME, dirs_exist_ok=True)
    for directory, _, files in os.walk(_VOLUME):
        for path in (directory, *(os.path.join(directory, name) for name in files)):
            os.chown(path, uid, gid)
    # As of a volume with `fsGroup`: a group that the user's own namespaces do not know, handed down to what is made in it.
    os.chown(_VOLUME, uid, 5)
    os.chmod(_VOLUME, 0o2775)


def make_small_dev() -> None:
    new = _STAGE / "dev"
    new.mkdir()
    syscalls.mount("tmpfs", str(new), "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, "mode=755")
    for name in _NODES:
        (new / name).touch()
        bind(f"/dev/{name}", new / name)
    for name in ("shm", "mqueue", "pts"):
        (new / name).mkdir()
    syscalls.mount("tmpfs", str(new / "shm"), "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=1777")
    syscalls.mount("devpts", str(new / "pts"), "devpts", 0, "newinstance,ptmxmode=0666")
    for name, target in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd")):
        (new / name).symlink_to(target)
    syscalls.mount(str(new), "/dev", None, syscalls.MS_BIND | syscalls.MS_REC)


def mask() -> None:
    """Cover what runtimes cover; the kernel then refuses every new /proc, which would show it."""
    for path in filter(os.path.exists, _COVERED_FILES):
        bind("/dev/null", path)
    for path in filter(os.path.isdir, _COVERED_DIRECTORIES):
        syscalls.mount("tmpfs", path, "tmpfs", syscalls.MS_RDONLY)
    for path in filter(os.path.exists, _READONLY):
        bind(path, path)
        make_readonly(path)


def bind(source: str | Path, target: str | Path) -> None:
    syscalls.mount(
        source if isinstance(source, str) else str(source), str(target), None, syscalls.MS_BIND | syscalls.MS_REC
    )


def make_readonly(path: str) -> None:
    tree = syscalls.open_tree(syscalls.AT_FDCWD, path, 0)
    syscalls.mount_setattr(tree, set_attributes=syscalls.MOUNT_ATTR_RDONLY, recursive=True)
    os.close(tree)


# --- privileges -------------------------------------------------------------------------------------------------------


def restrict(wanted: Wanted, uid: int, gid: int) -> None:
    if wanted["newest_call"]:
        seccomp.install(missing_calls(wanted["newest_call"]))
    allowed = sum(1 << sandbox.ALL_CAPABILITIES.index(name) for name in wanted["capabilities"])
    for number in range(64):
        if not allowed >> number & 1:
            drop(number)
    if wanted["user"] == "ordinary":
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    else:
        syscalls.capset(allowed, allowed, 0)
    if wanted["no_new_privileges"]:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of credentials makes the kernel forget it


def missing_calls(newest: int) -> bytes:
    """Return a filter under which calls after number *newest* do not exist (only for the native architecture)."""
    load_number, jump_if_greater, give = 0x20, 0x25, 0x06
    steps = (
        (load_number, 0, 0, 0),
        (jump_if_greater, 0, 1, newest),
        (give, 0, 0, 0x00050000 | errno.ENOSYS),
        (give, 0, 0, 0x7FFF0000),
    )
    return b"".join(struct.pack("<HBBI", *step) for step in steps)


def drop(number: int) -> None:
    try:
        syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
    except OSError as err:
        if err.errno != errno.EINVAL:  # beyond the last one of this kernel
            raise


def environment(wanted: Wanted) -> dict[str, str]:
    kept = dict(os.environ)
    if wanted["user"] == "root":
        kept |= {"USER": "root", "LOGNAME": "root"}
    if not wanted["runtime_directory"]:
        kept.pop("XDG_RUNTIME_DIR", None)
    return kept


if __name__ == "__main__":
    main()
