"""The executor `chroot`: which calls of which programs stop, what 32-bit programs are told, and where links of a tree lead."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from harness.bpf import evaluate
from img_executor_chroot import _calls, _filter, _forms
from img_executor_chroot._links import leads_to
from img_executor_chroot._outside import StepTree

ALLOW, NOTIFY, ERROR = 0x7FFF0000, 0x7FC00000, 0x00050000
BUILDER, OTHER = 4711, 4712
ABIS = {
    "x86_64": _calls.abis_of("x86_64"),
    "aarch64": _calls.abis_of("aarch64"),
}
NAMES = ("x86_64", "i386", "aarch64", "arm")
TABLE = Path(__file__).parents[3] / "contrib/seccomp/syscalls.txt"
#: how the table calls what we call otherwise
ALIASES = {
    "chown": "chown32", "lchown": "lchown32", "utimensat32": "utimensat", "utimensat": "utimensat_time64",
}  # fmt: skip
ON_PROCESSES = (
    "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open", "ptrace", "process_vm_readv", "process_vm_writev",
)  # fmt: skip


def numbers() -> dict[str, dict[str, int]]:
    rows = [line.split() for line in TABLE.read_text().splitlines() if not line.startswith("#")]
    return {
        machine: {row[0]: int(row[column]) for row in rows if row[column] != "-"}
        for column, machine in enumerate(NAMES, 1)
    }


@pytest.mark.parametrize("machine", ABIS)
def test_the_numbers_are_those_of_the_kernel(machine: str) -> None:
    table = numbers()
    for abi, name in zip(ABIS[machine], NAMES[2 * (machine == "aarch64") :], strict=False):
        known = table[name]
        for call, number in abi.names.items():
            assert known[ALIASES.get(call, call) if name == "i386" else call] == number, f"{call} of {name}"
        assert list(abi.on_processes) == [known[call] for call in ON_PROCESSES]
        assert (abi.prctl, abi.socket, abi.prlimit) == (known["prctl"], known["socket"], known["prlimit64"])
        assert abi.socketcall in (-1, known.get("socketcall"))


@pytest.fixture(params=ABIS)
def abis(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[_calls.Abi, ...]:
    """Give the ways to call the kernel of a machine, which the filter is for."""
    found = ABIS[request.param]
    monkeypatch.setattr(_filter, "ABIS", found)
    return found


def test_every_program_is_watched_and_kept_from_its_builder(abis: tuple[_calls.Abi, ...]) -> None:
    program = _filter.program([BUILDER], network=True, everybody=False)
    for abi in abis:
        for number, call in abi.calls.items():
            given = [0x1000] * 6
            if call.flags >= 0:
                given[call.flags] = 0
            assert evaluate(program, abi.architecture, number, *given) == NOTIFY, call
        for number, position in abi.on_processes.items():
            for pid, answer in (
                (BUILDER, errno.EPERM),
                (-BUILDER & 0xFFFFFFFF, errno.EPERM),
                (0xFFFFFFFF, errno.EPERM),
                (OTHER, 0),
            ):
                given = [0] * 6
                given[position] = pid
                expected = ERROR | answer if answer else ALLOW
                assert evaluate(program, abi.architecture, number, *given) == expected, (number, pid)
        assert evaluate(program, abi.architecture, abi.prlimit, BUILDER) == ERROR | errno.EPERM
        assert evaluate(program, abi.architecture, abi.prlimit, 0) == ALLOW
        assert evaluate(program, abi.architecture, abi.prctl, 4, 0) == ERROR  # PR_SET_DUMPABLE seems to succeed
        assert evaluate(program, abi.architecture, abi.prctl, 4, 1) == ALLOW
        assert evaluate(program, abi.architecture, abi.socket, 2) == ALLOW
        assert evaluate(program, abi.architecture, 9999) == ALLOW
    assert evaluate(program, 0x1234, 2) == ALLOW  # the filter of all steps kills it


def test_without_a_network_there_are_unix_sockets_alone(abis: tuple[_calls.Abi, ...]) -> None:
    program = _filter.program([BUILDER], network=False, everybody=True)
    for abi in abis:
        assert evaluate(program, abi.architecture, abi.socket, 1) == ALLOW
        assert evaluate(program, abi.architecture, abi.socket, 10) == ERROR | errno.EAFNOSUPPORT
        if abi.socketcall >= 0:
            assert evaluate(program, abi.architecture, abi.socketcall, 1) == ERROR | errno.EAFNOSUPPORT


@pytest.mark.parametrize("name", ["newfstatat", "statx", "fchownat", "fstatat64", "fchmodat2"])
def test_calls_about_a_descriptor_alone_pass(abis: tuple[_calls.Abi, ...], name: str) -> None:
    program = _filter.program([], network=True, everybody=True)
    for abi in abis:
        if (number := abi.names.get(name)) is not None:
            given = [0] * 6
            given[abi.calls[number].flags] = 0x1000  # AT_EMPTY_PATH
            assert evaluate(program, abi.architecture, number, *given) == ALLOW


def test_what_makes_a_new_file_passes_and_what_may_open_one_stops(abis: tuple[_calls.Abi, ...]) -> None:
    program = _filter.program([], network=True, everybody=True)
    making = os.O_CREAT | os.O_EXCL
    for abi in abis:
        for name in ("open", "openat"):
            if (number := abi.names.get(name)) is not None:
                for flags, answer in (
                    (making | os.O_WRONLY, ALLOW),
                    (making | os.O_RDWR | os.O_CLOEXEC | os.O_TRUNC, ALLOW),
                    (making | os.O_PATH, NOTIFY),  # makes nothing
                    (os.O_CREAT | os.O_WRONLY, NOTIFY),
                    (os.O_EXCL, NOTIFY),
                ):
                    given = [0x1000] * 6
                    given[abi.calls[number].flags] = flags
                    assert evaluate(program, abi.architecture, number, *given) == answer, flags


def test_times_of_a_descriptor_pass_and_others_stop(abis: tuple[_calls.Abi, ...]) -> None:
    program = _filter.program([], network=True, everybody=True)
    for abi in abis:
        for name in ("utimensat", "utimensat32"):
            if (number := abi.names.get(name)) is not None:
                assert evaluate(program, abi.architecture, number, 3, 0) == ALLOW
                assert evaluate(program, abi.architecture, number, 3, 1 << 32) == NOTIFY
                assert evaluate(program, abi.architecture, number, 3, 1) == NOTIFY


def test_programs_of_32_bits_are_told_structures_of_their_size(tmp_path: Path) -> None:
    os.utime(tmp_path, ns=(1_000_000_007, -5))
    fd = os.open(tmp_path, os.O_RDONLY)
    stat, info = _forms.stat64(fd), os.fstat(fd)
    os.close(fd)
    assert len(stat) == 96
    assert int.from_bytes(stat[16:20], "little") == info.st_mode
    assert [int.from_bytes(stat[at : at + 4], "little", signed=True) for at in (64, 68, 72, 76)] == [
        1,
        7,
        -1,
        999_999_995,
    ]
    assert len(_forms.statfs64(bytes(120))) == 84


#: what a tree has: name -> text of a link, or None for a directory; and what a path in it leads to
TREE = {
    "proc": None, "proc/self": "self", "proc/uptime": "uptime", "sys": None, "sys/kernel": "kernel", "dev": None, "dev/null": "null",
    "dev/stdin": "/proc/self/fd/0", "a": None, "a/up": "../proc/uptime", "process": "/proc/self", "again": "process", "loop": "loop",
    "out": "../../../../../proc/uptime", "chain": "a/../a/up", "in": "a", "stdin": "/dev/stdin", "null": "/dev/null", "k": "sys/kernel",
    "p": "/proc", "a/7": None, "one": "proc/12", "a/two": "../one", "three": "nothing",
}  # fmt: skip
LEADS = {
    "/a": None, "/a/up": b"/proc/uptime", "/in/up": b"/proc/uptime", "/process": b"/proc/self", "/process/status": b"/proc/self/status",
    "/again/fd/0": b"/proc/self/fd/0", "/loop": None, "/out": b"/proc/uptime", "/chain": b"/proc/uptime", "/nothing": None,
    "/stdin": b"/proc/self/fd/0", "/null": b"/dev/null", "/k/x": b"/sys/kernel/x", "/a/../process/../uptime": b"/proc/uptime",
    "/loop/x": None, "/a/./up": b"/proc/uptime", "/p/12/stat": b"/proc/12/stat", "/p/12": b"/proc/12", "/p/12/../self": b"/proc/self",
    "/proc/../p/12/stat": b"/proc/12/stat", "/sys/kernel/../../p/uptime": b"/proc/uptime", "/p/../a/7": None,
    "/null/x": None, "/dev/null/x/..": b"/dev/null", "/one": b"/proc/12", "/a/two/stat": b"/proc/12/stat", "/three": None, "/in/8": None,
    "/proc/../a/up": b"/proc/uptime", "/a/7": None, "/a/7/x": None, "/a/8": None, "/in/../p/12/": b"/proc/12", "/p/x": None,
}  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> StepTree:
    for name, text in TREE.items():
        if text is None:
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).symlink_to(text)
    return StepTree(os.open(tmp_path, os.O_PATH | os.O_DIRECTORY), [], devices=True)


@pytest.mark.parametrize("path", LEADS)
def test_links_lead_out_of_the_tree(tree: StepTree, path: str) -> None:
    assert leads_to(tree, path.encode(), follow=True) == LEADS[path]
    if path in ("/a/up", "/process", "/out", "/stdin"):
        assert leads_to(tree, path.encode(), follow=False) is None  # the link itself is meant
    for fd in (tree.root, *tree.held):
        os.close(fd)
