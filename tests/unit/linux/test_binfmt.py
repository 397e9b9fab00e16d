import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from img_core.linux import binfmt, syscalls
from img_core.linux.binfmt import Emulation, program_machine
from img_core.spec.errors import HostError
from img_core.spec.executor import Process

BY_NAME = {machine.qemu: machine for machine in binfmt._MACHINES}
SHELL = Process(args=("sh",), env=(("PATH", "/usr/bin:/bin"),))


@pytest.fixture
def root(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    (tmp_path / "bin").mkdir()
    fd = os.open(tmp_path, os.O_PATH)
    yield tmp_path, fd
    os.close(fd)


def machine_of(root_fd: int, process: Process) -> str:
    """Return the name of the machine whose program *process* is."""
    machine = program_machine(root_fd, process)
    assert machine is not None
    return machine.qemu


def elf(name: str) -> bytes:
    return BY_NAME[name].header + b"\0" * 100


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_every_architecture_is_told_by_its_header(root: tuple[Path, int], name: str) -> None:
    path, fd = root
    (path / "bin/sh").write_bytes(elf(name))
    assert machine_of(fd, SHELL) == name


def test_position_independent_programs_count_too(root: tuple[Path, int]) -> None:
    path, fd = root
    content = bytearray(elf("s390x"))
    struct.pack_into(">H", content, 16, 3)  # ET_DYN
    content[7] = 3  # GNU/Linux ABI
    (path / "bin/sh").write_bytes(content)
    assert machine_of(fd, SHELL) == "s390x"


def test_interpreters_of_scripts_are_followed_inside_the_root(root: tuple[Path, int]) -> None:
    path, fd = root
    (path / "bin/sh").symlink_to("/bin/real")
    (path / "bin/real").write_bytes(elf("aarch64"))
    (path / "run").write_text("#! /bin/second -x\n")
    (path / "bin/second").write_text("#!/bin/sh\n")
    assert machine_of(fd, replace(SHELL, args=("/run",))) == "aarch64"
    assert machine_of(fd, replace(SHELL, args=("./run",), cwd="/")) == "aarch64"


@pytest.mark.parametrize("kind", ["missing", "fifo", "loop", "text", "empty", "endless"])
def test_odd_programs_are_nobodys(root: tuple[Path, int], kind: str) -> None:
    path, fd = root
    program = path / "bin/sh"
    if kind == "fifo":
        os.mkfifo(program)
    elif kind == "loop":
        program.symlink_to("sh")
    elif kind == "text":
        program.write_text("hello")
    elif kind == "empty":
        program.write_text("")
    elif kind == "endless":
        program.write_text("#!/bin/sh\n")
    assert program_machine(fd, SHELL) is None


def test_native_programs_need_nothing(root: tuple[Path, int]) -> None:
    path, fd = root
    native = binfmt._NATIVE.get(syscalls.MACHINE, (syscalls.MACHINE,))[0]
    (path / "bin/sh").write_bytes(elf(native))
    Emulation("single", {"PATH": "/nowhere"}).prepare(fd, SHELL, ExitStack())


def test_root_gets_a_hint_instead_of_a_change_of_the_host(root: tuple[Path, int]) -> None:
    path, fd = root
    foreign = "s390x" if syscalls.MACHINE != "s390x" else "aarch64"
    (path / "bin/sh").write_bytes(elf(foreign))
    if binfmt._host_knows(BY_NAME[foreign]):
        pytest.skip("this host runs it")
    with pytest.raises(HostError, match=foreign) as caught:
        Emulation("root", {"PATH": "/nowhere"}).prepare(fd, SHELL, ExitStack())
    assert "qemu" in (caught.value.hint or "")


def test_dynamic_programs_are_not_taken_for_static(tmp_path: Path) -> None:
    def program(kind: int) -> str:
        header = bytearray(64)
        header[:6] = b"\x7fELF\x02\x01"
        struct.pack_into("<Q", header, 32, 64)
        struct.pack_into("<HH", header, 54, 56, 2)
        path = tmp_path / str(kind)
        path.write_bytes(
            bytes(header) + struct.pack("<I", 1).ljust(56, b"\0") + struct.pack("<I", kind).ljust(56, b"\0")
        )
        return str(path)

    assert binfmt._is_static(program(1))
    assert not binfmt._is_static(program(3))
    (tmp_path / "script").write_text("#!/bin/sh\n")
    assert not binfmt._is_static(str(tmp_path / "script"))


@pytest.mark.skipif(syscalls.MACHINE != "x86_64", reason="the foreign program is for arm64")
def test_direct_emulation_runs_the_interpreter_of_a_script_under_qemu(root: tuple[Path, int], tmp_path: Path) -> None:
    path, fd = root
    qemu = path / "qemu-aarch64-static"
    header = bytearray(elf("x86_64")[:64])
    struct.pack_into("<Q", header, 32, 64)
    struct.pack_into("<HH", header, 54, 56, 1)
    qemu.write_bytes(bytes(header) + struct.pack("<I", 1) + b"\0" * 52)
    qemu.chmod(0o755)
    (path / "bin/sh").write_bytes(elf("aarch64"))
    (path / "run").write_text("#!/bin/sh -e x\n")
    emulation = Emulation("single", {"PATH": str(path), "IMG_EMULATION": "direct"})
    with ExitStack() as opened:
        made = emulation.prepare(fd, replace(SHELL, args=("/run", "argument")), opened)
        assert made.args == ("/dev/qemu-aarch64", "-0", "/bin/sh", "/bin/sh", "-e x", "/run", "argument")
        assert [mount.target for mount in made.mounts] == ["/dev/qemu-aarch64"]
        assert emulation.prepare(fd, SHELL, opened).args == ("/dev/qemu-aarch64", "-0", "sh", "/bin/sh")
