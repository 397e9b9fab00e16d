"""Run programs of other architectures in steps, without root and without any change of the host.

Since Linux 6.7 a user namespace can have its own list of interpreters for foreign programs (binfmt_misc). The first step whose
program is foreign makes such a list and enters every static qemu that PATH has. The kernel opens qemu at that moment (flag
``F``), so the image needs nothing, and forgets the list when we end.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from img_core.linux import mounts, syscalls
from img_core.spec.errors import HostError
from img_core.spec.executor import Mount

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import ExitStack

    from img_core.spec.executor import Process
    from img_core.spec.host import IdMapping

__all__ = ["Emulation", "can_make_list", "emulated_platforms", "is_native_32_bits", "program_machine"]


@dataclass(frozen=True, slots=True)
class _Machine:
    """An architecture as ELF headers, qemu, image platforms and uname call it."""

    qemu: str
    platform: str
    elf: int
    bits: int = 64
    byte_order: str = "little"

    @property
    def header(self) -> bytes:
        """The first 20 bytes of its programs."""
        mark = "<" if self.byte_order == "little" else ">"
        identity = bytes([0x7F, *b"ELF", 2 if self.bits == 64 else 1, 1 if mark == "<" else 2, 1])
        return identity.ljust(16, b"\0") + struct.pack(f"{mark}HH", 2, self.elf)

    @property
    def mask(self) -> bytes:
        """Which bits of `header` count: not the ABI, and ET_EXEC (2) is as good as ET_DYN (3)."""
        kinds = b"\xfe\xff" if self.byte_order == "little" else b"\xff\xfe"
        return b"\xff" * 7 + b"\0" + b"\xff" * 8 + kinds + b"\xff\xff"


_MACHINES: Final = (
    _Machine("x86_64", "amd64", 62),
    _Machine("i386", "386", 3, 32),
    _Machine("aarch64", "arm64", 183),
    _Machine("arm", "arm", 40, 32),
    _Machine("riscv64", "riscv64", 243),
    _Machine("ppc64le", "ppc64le", 21),
    _Machine("s390x", "s390x", 22, byte_order="big"),
    _Machine("mips64el", "mips64le", 8),
    _Machine("loongarch64", "loong64", 258),
)
#: what the processor runs by itself: machine of uname -> names of qemu
_NATIVE: Final = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64", "arm"), "ppc64le": ("ppc64le",)}
#: mappings of ids without a user namespace, and so without a list, of our own
_ONLY_THE_HOSTS: Final = ("root", "container", "fake")
_HOST_LIST: Final = "/proc/sys/fs/binfmt_misc"
_CHOICE: Final = "IMG_EMULATION"
_HEADER_SIZE: Final = 256
_PT_INTERP: Final = 3


class Emulation:
    """The interpreters that one build uses; `prepare` may be called from several threads."""

    def __init__(self, mapping: IdMapping, environment: Mapping[str, str]) -> None:
        self._mapping = mapping
        self._search_path = environment.get("PATH", os.defpath)
        self._direct = environment.get(_CHOICE) == "direct"
        self._lock = threading.Lock()  # guards the list
        self._list = -1  # a detached binfmt_misc; it ends with this descriptor
        self._known: set[str] = set()

    def prepare(self, root_fd: int, process: Process, opened: ExitStack) -> Process:
        """See to it that the program of *process* can run, and return what to run. Raises HostError when it is foreign and cannot.

        Normally that is *process* itself. If the user has chosen so by ``IMG_EMULATION=direct``, it is qemu with that program; what it
        mounts for that is open until *opened* ends.
        """
        machine, words = _find_program(root_fd, process)
        if machine is None or machine.qemu in _NATIVE.get(syscalls.MACHINE, (syscalls.MACHINE,)):
            return process
        if self._direct:
            return self._under_qemu(machine, words, process, opened)
        with self._lock:
            if machine.qemu not in self._known:
                self._make_known(machine)
        return process

    def _under_qemu(self, machine: _Machine, words: Sequence[str], process: Process, opened: ExitStack) -> Process:
        """Return *process* as an argument of qemu, which is mounted where no layer gets it.

        For kernels without lists of our own: the program and its forks run, another program that it executes does not.
        """
        qemu = _find_static_qemu(machine, self._search_path)
        if qemu is None:
            raise _no_qemu(machine)
        fd = os.open(qemu, os.O_PATH | os.O_CLOEXEC)
        opened.callback(os.close, fd)
        target = f"/dev/qemu-{machine.qemu}"
        mount = Mount(target, source_fd=fd)
        own_name = process.args[0] if len(words) == 1 else words[0]  # an interpreter is called by its path
        args = (target, "-0", own_name, *words, *process.args[1:])
        return replace(process, args=args, mounts=(*process.mounts, mount))

    def _make_known(self, wanted: _Machine) -> None:
        if _host_knows(wanted):
            self._known.add(wanted.qemu)
            return
        if self._mapping in _ONLY_THE_HOSTS:
            raise HostError(
                f"the image is for `{wanted.platform}` and this machine is not set up to run that",
                hint=f"register qemu with the flag F, e.g. install `qemu-user-static` (looked in {_HOST_LIST})",
            )
        if self._list < 0:
            self._list = self._new_list()
        # A list of our own hides that of the host, so everything we can offer goes into it at once.
        for machine in _MACHINES:
            qemu = _find_static_qemu(machine, self._search_path)
            if qemu is not None and machine.qemu not in self._known and machine.qemu != syscalls.MACHINE:
                _register(self._list, machine, qemu)
                self._known.add(machine.qemu)
        if wanted.qemu not in self._known:
            raise _no_qemu(wanted)

    def _new_list(self) -> int:
        try:
            return mounts.create("binfmt_misc")
        except OSError as err:
            raise HostError(
                f"cannot run programs of other architectures here: {err.strerror}",
                hint="it takes Linux 6.7, or a host where an administrator has registered qemu with the flag F; "
                f"for steps of a single program set `{_CHOICE}=direct`",
            ) from err

    def close(self) -> None:
        """Forget the interpreters."""
        own_list, self._list = self._list, -1
        if own_list >= 0:
            os.close(own_list)


def _no_qemu(machine: _Machine) -> HostError:
    return HostError(
        f"the image is for `{machine.platform}` and there is no static `qemu-{machine.qemu}` on PATH",
        hint="install the package `qemu-user-static`",
    )


def emulated_platforms(mapping: IdMapping, environment: Mapping[str, str]) -> list[str]:
    """Return the other platforms (``linux/arm64``) whose programs can run here, without changing anything."""
    search_path = environment.get("PATH", os.defpath)
    own_list = mapping not in _ONLY_THE_HOSTS and can_make_list()
    native = _NATIVE.get(syscalls.MACHINE, (syscalls.MACHINE,))
    return [
        f"linux/{machine.platform}"
        for machine in _MACHINES
        if machine.qemu not in native
        and (_host_knows(machine) or (own_list and _find_static_qemu(machine, search_path) is not None))
    ]


def can_make_list() -> bool:
    """Tell whether our user namespace may have a list of interpreters of its own."""
    try:
        os.close(mounts.create("binfmt_misc"))
    except OSError:
        return False
    return True


def _register(list_fd: int, machine: _Machine, qemu: str) -> None:
    # name : M(agic) : offset : magic : mask : interpreter : flags. P: keep argv[0]; O, C: set-id programs work; F: open now.
    magic, mask = ("".join(f"\\x{byte:02x}" for byte in data) for data in (machine.header, machine.mask))
    line = f":img-{machine.qemu}:M::{magic}:{mask}:{qemu}:POCF"
    register = os.open("register", os.O_WRONLY | os.O_CLOEXEC, dir_fd=list_fd)
    try:
        os.write(register, line.encode())  # one write; a file object would report errors too late
    except OSError as err:
        if err.errno != errno.EEXIST:
            raise HostError(f"the kernel refuses `{qemu}` as interpreter: {err.strerror}") from err
    finally:
        os.close(register)


def _host_knows(machine: _Machine) -> bool:
    """Tell whether the host has an interpreter for *machine* that was opened at registration (flag F)."""
    wanted = f"magic {machine.header.hex()}"
    try:
        names = os.listdir(_HOST_LIST)
    except OSError:
        return False
    for name in names:
        try:
            with open(f"{_HOST_LIST}/{name}", "rb") as stream:
                text = stream.read(4096).decode(errors="replace")
        except OSError:
            continue
        lines = text.splitlines()
        flags = next((line for line in lines if line.startswith("flags:")), "")
        if lines and lines[0] == "enabled" and "F" in flags[6:] and wanted in lines:
            return True
    return False


def _find_static_qemu(machine: _Machine, search_path: str) -> str | None:
    for name in (f"qemu-{machine.qemu}-static", f"qemu-{machine.qemu}"):
        for directory in search_path.split(os.pathsep):
            path = f"{directory}/{name}"
            if directory.startswith("/") and os.access(path, os.X_OK) and len(path) <= 100 and _is_static(path):
                return path
    return None


def _is_static(path: str) -> bool:
    """Tell whether an ELF program of this machine needs no loader, which the image does not have."""
    with open(path, "rb") as stream:
        header = stream.read(64)
        if header[:6] != b"\x7fELF\x02\x01":
            return False
        offset, size, count = *struct.unpack_from("<Q", header, 32), *struct.unpack_from("<HH", header, 54)
        stream.seek(offset)
        table = stream.read(size * count)
    kinds = [struct.unpack_from("<I", table, number * size)[0] for number in range(len(table) // max(size, 1))]
    return bool(kinds) and _PT_INTERP not in kinds


# --- what an image's program is ---------------------------------------------------------------------------------------


def program_machine(root_fd: int, process: Process) -> _Machine | None:
    """Return the architecture of the program that *process* names, as far as its file tells; None when it does not."""
    return _find_program(root_fd, process)[0]


def is_native_32_bits(root_fd: int, process: Process) -> bool:
    """Tell whether *process* names a program for the 32-bit mode of this machine's processor."""
    machine = program_machine(root_fd, process)
    return machine is not None and machine.bits == 32 and machine.qemu in _NATIVE.get(syscalls.MACHINE, ())


def _find_program(root_fd: int, process: Process) -> tuple[_Machine | None, list[str]]:
    """Return the architecture, and what the kernel would execute in place of the first argument: for a script its interpreter."""
    name = process.args[0]
    candidates: Sequence[str] = [name if name.startswith("/") else f"{process.cwd}/{name}"]
    if "/" not in name:
        path = dict(process.env).get("PATH") or "/bin"
        candidates = [f"{directory}/{name}" for directory in path.split(":")]
    for candidate in candidates:
        header, words = _read_header(root_fd, candidate), [candidate]
        for _ in range(4):  # scripts whose interpreters are scripts
            if not header.startswith(b"#!"):
                break
            # The path, and all the rest of the line as one argument; see execve(2).
            line = [os.fsdecode(word) for word in header[2:].split(b"\n")[0].strip().split(None, 1)]
            words = line + words
            header = _read_header(root_fd, line[0]) if line else b""
        if header:
            return next((machine for machine in _MACHINES if _matches(machine, header)), None), words
    return None, []


def _matches(machine: _Machine, header: bytes) -> bool:
    relevant = bytes(byte & mask for byte, mask in zip(header, machine.mask, strict=False))
    return relevant == bytes(byte & mask for byte, mask in zip(machine.header, machine.mask, strict=True))


def _read_header(root_fd: int, path: str) -> bytes:
    """Read the beginning of a regular file of the image; empty when there is none."""
    try:
        fd = syscalls.openat2(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return b""
    try:
        return os.read(fd, _HEADER_SIZE) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(fd)
