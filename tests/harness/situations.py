"""Hosts that are not like the developer's: a command in a container-like surrounding, made by an ordinary user.

`Situation.wrap` returns a command line which sets the stage in namespaces of its own (`harness.outer`) and becomes the command:
as the same user, or as root with the capabilities that containers have, but in either case with no privilege on the host and,
unlike `unshare`, with none in the surrounding namespace. What a pod's node does to its containers is done here with the same
means: overmounts in /proc, a small /dev, a read-only /sys, a bounding set.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from img_core.linux.sandbox import DEFAULT_CAPABILITIES

__all__ = ["NORMAL", "POD", "UNMODIFIED", "VOLUME", "Situation", "Surrounding", "Unmodified"]

VOLUME = Path("/mnt/volume")

_OUTER = Path(__file__).with_name("outer.py")
_ENGINE = Path(__file__).with_name("engine.py")


class Surrounding(Protocol):
    """Anything that a command can be run in."""

    def wrap(self, *command: str) -> list[str]:
        """Return the command line that runs *command* there."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the surrounding has and lacks. The defaults are a namespace in which everything works."""

    user: Literal["ordinary", "root"] = "ordinary"  #: root: with the capabilities of a container, no SYS_ADMIN
    #: newuidmap: as containers need it (file capabilities), as Debian has it, not at all
    id_tools: Literal["capable", "setuid", "missing"] = "capable"
    sub_ids: bool = True  #: False: /etc/subuid gives ids to somebody else only
    masked_proc: bool = False  #: parts of /proc are covered, so the kernel allows no new one
    cgroups: bool = True  #: False: /sys/fs/cgroup is empty, /sys is read-only
    runtime_directory: bool = True  #: False: no XDG_RUNTIME_DIR, /run is read-only
    small_dev: bool = False  #: /dev has the usual nodes, no /dev/fuse, no /dev/net/tun
    no_new_privileges: bool = False
    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES  #: what programs may have at most; root has them all
    namespaces: bool = True  #: False: the limit on user namespaces is 0
    overlay: str = ""  #: a directory that is covered by an overlay of itself, like the root of a container
    volume: str = ""  #: a directory, of which the user has a copy in the fresh file system `VOLUME`
    attributes: bool = True  #: False: that file system keeps none, as many on a network
    executable: bool = True  #: False: that file system is mounted `noexec`
    newest_call: int = 0  #: system calls with a greater number do not exist (0: all do)

    def but(self, **changes: object) -> Situation:
        """Return it with *changes*."""
        return replace(self, **changes)  # type: ignore[arg-type]  # names are checked by the class

    def wrap(self, *command: str) -> list[str]:
        """Return the command line that runs *command* there."""
        return [sys.executable, str(_OUTER), json.dumps(asdict(self)), *command]


NORMAL = Situation()

#: a pod of an ordinary user with everything that a restricted cluster takes away, but seccomp and AppArmor unconfined
POD = Situation(masked_proc=True, cgroups=False, runtime_directory=False, small_dev=True)


@dataclass(frozen=True, slots=True)
class Unmodified:
    """A container as an engine starts it when it is told nothing, under runc (`harness.engine`).

    *layer* is where its writable layer is kept between commands; *visible* are paths of this machine that it sees, read-only. *image* is
    the root file system below that layer; without one it is a small one, with the programs of this machine, or a *prepared* one.
    """

    layer: str
    user: int = 0
    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES
    no_new_privileges: bool = False
    user_namespace: bool = False  #: `hostUsers: false`; what an ordinary user starts has one in any case
    visible: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()  #: such that it may change
    volumes: tuple[tuple[str, str], ...] = ()  #: where in it, and which directory of this machine
    image: str = ""
    #: apart: an image that has nothing but `harness.prepared.HOME`, in which a command is; owned: and directories of *user* beside it
    prepared: Literal["", "apart", "owned"] = ""
    open_root: bool = False  #: everybody may write in its root directory

    def but(self, **changes: object) -> Unmodified:
        """Return it with *changes*."""
        return replace(self, **changes)  # type: ignore[arg-type]  # names are checked by the class

    def wrap(self, *command: str) -> list[str]:
        """Return the command line that runs *command* there."""
        return [sys.executable, str(_ENGINE), json.dumps(asdict(self)), *command]


_WITHOUT_CHROOT = tuple(
    name for name in DEFAULT_CAPABILITIES if name not in ("SYS_CHROOT", "MKNOD", "SETFCAP", "NET_RAW", "AUDIT_WRITE")
)

_NOTHING: dict[str, object] = {"capabilities": (), "no_new_privileges": True}
_RESTRICTED: dict[str, object] = {"user": 1000, **_NOTHING}

#: the changes that make an `Unmodified` what it stands for
UNMODIFIED: dict[str, dict[str, object]] = {
    "root": {},  # docker run; Kubernetes "baseline" on containerd
    "root-apart": {"prepared": "apart"},  # the same with an image that has img alone
    "host-users-false": {"user_namespace": True},
    "cri-o-root": {"capabilities": _WITHOUT_CHROOT, "prepared": "apart"},
    "host-users-false-drop-all": {"user_namespace": True, **_NOTHING, "prepared": "apart"},
    "ordinary-user": {"user": 1000},  # docker run --user
    "restricted": _RESTRICTED,  # Kubernetes "restricted" on containerd, with the image of anybody
    "restricted-open-root": {
        **_RESTRICTED,
        "prepared": "apart",
        "open_root": True,
    },  # CRI-O keeps the mode of an image's root
    "restricted-prepared": {**_RESTRICTED, "prepared": "owned"},
}
