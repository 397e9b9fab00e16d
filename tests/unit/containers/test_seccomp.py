import errno
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.bpf import evaluate
from img_core.linux import sandbox, syscalls
from img_lib_containers import seccomp, seccomp_rules, supervised_calls

ROOT = Path(__file__).resolve().parents[3]
CLONE_THREAD, CLONE_NEWUSER = 0x10000, 0x10000000

Table = dict[str, dict[str, int]]  #: numbers of calls by architecture and name


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("seccomp_generate", ROOT / "contrib/seccomp/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def table(generator: ModuleType) -> Table:
    found: Table = generator.read_table(ROOT / "contrib/seccomp/syscalls.txt")
    return found


def rules_of(profile: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the rules of a profile, which is JSON."""
    assert profile is not None
    found: list[dict[str, Any]] = profile["syscalls"]
    return found


def error(number: int) -> int:
    return 0x00050000 | number


ALLOW, NOTIFY = 0x7FFF0000, 0x7FC00000


def test_committed_programs_are_up_to_date(generator: ModuleType) -> None:
    for path, content in generator.files().items():
        assert path.read_bytes() == content, "run contrib/seccomp/generate.py"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_call_gets_the_answer_of_the_rules(generator: ModuleType, table: Table, machine: str) -> None:
    program = generator.programs()[f"seccomp_{machine}.bpf"]
    conditional = {condition.name for condition in seccomp_rules.CONDITIONS}
    for architecture in generator.FAMILIES[machine]:
        for name, number in table[architecture].items():
            if name in conditional:
                continue
            answer = evaluate(program, generator.AUDIT_ARCH[architecture], number)
            if name in seccomp_rules.HIDDEN:
                assert answer == error(errno.ENOSYS), name
            else:
                assert answer == (ALLOW if name in seccomp_rules.ALLOWED else error(errno.EPERM)), name


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_arguments_decide(generator: ModuleType, table: Table, machine: str) -> None:
    program = generator.programs()[f"seccomp_{machine}.bpf"]
    for architecture in generator.FAMILIES[machine]:
        arch, numbers = generator.AUDIT_ARCH[architecture], table[architecture]

        def answer(name: str, *arguments: int, arch: int = arch, numbers: dict[str, int] = numbers) -> int:
            return evaluate(program, arch, numbers[name], *arguments)

        assert answer("clone", CLONE_THREAD) == ALLOW
        for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, CLONE_NEWUSER, 0x20000000, 0x40000000):
            assert answer("clone", CLONE_THREAD | flag) == error(errno.EPERM)
        assert answer("personality", 0xFFFFFFFF) == answer("personality", 8) == ALLOW
        assert answer("personality", 0x0040000) == error(errno.EPERM)
        assert answer("socket", 2) == answer("socket", 16) == ALLOW
        refused = {family for family in range(48) if answer("socket", family) != ALLOW}
        assert refused == {38, 40}
        # The kernel takes the lower half for the family.
        assert answer("socket", 1 << 32 | 40) == answer("socket", 1 << 32 | 38) == error(errno.EPERM)


@pytest.mark.parametrize("number", [470, 500, 0x40000000 + 1, 0xFFFFFFFF])
def test_unknown_calls_seem_not_to_exist(generator: ModuleType, number: int) -> None:
    for machine, family in generator.FAMILIES.items():
        program = generator.programs()[f"seccomp_{machine}.bpf"]
        for architecture in family:
            assert evaluate(program, generator.AUDIT_ARCH[architecture], number) == error(errno.ENOSYS)
        assert evaluate(program, 0x12345678, 1) == error(errno.ENOSYS)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_owner_filter_catches_changes_of_owner_and_id(generator: ModuleType, table: Table, machine: str) -> None:
    program = generator.programs()[f"owners_{machine}.bpf"]
    for architecture in generator.FAMILIES[machine]:
        arch, numbers = generator.AUDIT_ARCH[architecture], table[architecture]
        for name, number in numbers.items():
            answer = evaluate(program, arch, number)
            ids = name.startswith(("set", "get")) and ("uid" in name or "gid" in name or "groups" in name)
            if "chown" in name or (ids and "pgid" not in name):
                assert answer == NOTIFY, name
        assert evaluate(program, arch, numbers["capset"]) == error(0)
        assert evaluate(program, arch, numbers["mknodat"], 0, 0, 0o020666) == error(0)
        assert evaluate(program, arch, numbers["mknodat"], 0, 0, 0o010666) == NOTIFY
        assert evaluate(program, arch, numbers["openat"], 0, 0, os.O_RDWR | os.O_CREAT) == NOTIFY
        assert evaluate(program, arch, numbers["openat"], 0, 0, os.O_RDWR) == ALLOW
        assert evaluate(program, arch, numbers["write"]) == ALLOW


def test_the_filter_for_hidden_families_hands_over_only_the_making_of_sockets_by_32_bit_programs(
    generator: ModuleType, table: Table
) -> None:
    i386, x86_64 = generator.AUDIT_ARCH["i386"], generator.AUDIT_ARCH["x86_64"]
    for name in ("sockets_x86_64.bpf", "owners_x86_64.bpf"):
        program = generator.programs()[name]
        for call in range(21):
            assert evaluate(program, i386, 102, call) == (NOTIFY if call == 1 else ALLOW), (name, call)
        assert evaluate(program, x86_64, 102, 1) == (ALLOW if "sockets" in name else NOTIFY)  # there it is getuid
        assert evaluate(program, x86_64, 41, 1) == evaluate(program, i386, 359, 1) == ALLOW
    refusing = seccomp.refusing(generator.programs()["sockets_x86_64.bpf"])
    assert evaluate(refusing, i386, 102, 1) == error(errno.EAFNOSUPPORT)
    assert evaluate(refusing, i386, 102, 2) == ALLOW


def test_a_supervisor_lets_the_same_families_pass_as_the_filter(generator: ModuleType, table: Table) -> None:
    program = generator.programs()["seccomp_x86_64.bpf"]
    for family in (*range(64), 1 << 31, 0xFFFFFFFF):
        allowed = evaluate(program, generator.AUDIT_ARCH["i386"], 359, family) == ALLOW
        assert seccomp_rules.may_use_family(family) == allowed, family


def test_the_builders_profile_allows_what_steps_get_and_no_more_than_it_has_to() -> None:
    rules = rules_of(seccomp_rules.builder_profile())
    unconditional = {
        name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule for name in rule["names"]
    }
    assert unconditional == seccomp_rules.ALLOWED | seccomp_rules.BUILDER_CALLS
    assert not unconditional & {"bpf", "kexec_load", "init_module", "io_uring_setup", "open_by_handle_at", "reboot"}
    assert "clone" not in {name for rule in rules if "args" in rule for name in rule["names"]}


def test_the_supervisor_knows_the_calls_that_it_is_handed_by_their_numbers(table: Table) -> None:
    """What it does not know the kernel does."""
    conditions = (*seccomp_rules.OWNER_CONDITIONS, *seccomp_rules.FAKE_PRIVILEGES, *seccomp_rules.CLOSING_MASKS)
    conditional = {condition.name for condition in (*conditions, *seccomp_rules.FAKE_ROOT_EXCEPTIONS)}
    handed = seccomp_rules.OWNER_CALLS | seccomp_rules.FAKE_ROOT_CALLS | seccomp_rules.STANDING_CALLS | conditional
    assert handed == supervised_calls.NUMBERS.keys()
    for name, numbers in supervised_calls.NUMBERS.items():
        for architecture, number in zip(("x86_64", "i386", "aarch64", "arm"), numbers, strict=True):
            known = table[architecture].get(name, -1)
            old = architecture in ("i386", "arm") and "stat" in name
            assert number == known or (number == -1 and old), f"{name} of {architecture}"


#: call, position of its flags, flags (open(2), access(2)), and whether a supervisor of who has no capability is asked
ASKED = [
    ("open", 1, os.O_RDONLY, False),
    ("openat", 2, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW, False),
    ("openat", 2, os.O_PATH, False),
    ("openat", 2, os.O_WRONLY, True),
    ("openat", 2, os.O_RDWR, True),
    ("open", 1, os.O_RDONLY | os.O_TRUNC, True),
    ("open", 1, os.O_RDONLY | os.O_CREAT, True),
    ("openat", 2, 0o20000000, True),
    ("access", 1, os.R_OK, False),
    ("faccessat", 2, os.F_OK, False),
    ("access", 1, os.W_OK, True),
    ("faccessat2", 2, os.R_OK | os.X_OK, True),
    ("chdir", 1, 0, False),
    ("unlinkat", 1, 0, False),
    ("renameat2", 1, 0, False),
    ("chmod", 1, 0, True),
]


@pytest.mark.parametrize(("name", "position", "flags", "asked"), ASKED)
def test_who_has_no_capability_reads_without_asking(
    generator: ModuleType, table: Table, name: str, position: int, flags: int, asked: bool
) -> None:
    arguments = [0] * position + [flags]
    for machine, family in generator.FAMILIES.items():
        programs = [generator.programs()[f"{each}_{machine}.bpf"] for each in ("fake_root", "standing")]
        for architecture in family:
            if name not in table[architecture]:
                continue
            call = generator.AUDIT_ARCH[architecture], table[architecture][name]
            hides = name in seccomp_rules.STANDING_CALLS  # a directory that is not to be seen
            assert evaluate(programs[0], *call, *arguments) == (NOTIFY if asked else ALLOW)
            assert evaluate(programs[1], *call, *arguments) == (NOTIFY if asked or hides else ALLOW)


def test_rules_name_only_real_calls(table: Table) -> None:
    known = {name for numbers in table.values() for name in numbers}
    named = seccomp_rules.ALLOWED | seccomp_rules.HIDDEN | seccomp_rules.OWNER_CALLS | seccomp_rules.PRETENDED
    assert named <= known
    assert {condition.name for condition in seccomp_rules.CONDITIONS} <= known


@pytest.mark.parametrize(
    "name", ["mount", "bpf", "keyctl", "unshare", "setns", "kexec_load", "init_module", "io_uring_setup"]
)
def test_dangerous_calls_are_not_allowed(name: str) -> None:
    assert name not in seccomp_rules.ALLOWED


def test_oci_profile_compares_only_the_bits_that_the_kernel_looks_at() -> None:
    rules = [rule for rule in rules_of(seccomp_rules.oci_profile("x86_64")) if rule["names"] == ["socket"]]
    assert {rule["args"][0]["op"] for rule in rules} == {"SCMP_CMP_MASKED_EQ"}
    assert max(rule["args"][0]["value"] for rule in rules) <= 0xFFFFFFFF


def test_oci_profile_says_the_same() -> None:
    profile = seccomp_rules.oci_profile("x86_64")
    assert profile is not None
    assert profile["architectures"] == ["SCMP_ARCH_X86_64"]
    allowed = {name for rule in rules_of(profile) if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    assert allowed == seccomp_rules.ALLOWED | {condition.name for condition in seccomp_rules.CONDITIONS}
    json.dumps(profile)
    assert seccomp_rules.oci_profile("pdp11") is None


PROBE = """
import ctypes, errno, os, sys
from img_core.linux import syscalls
from img_lib_containers import seccomp
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install(seccomp.sandbox_program())
libc = ctypes.CDLL(None, use_errno=True)
def attempt(*arguments: int):
    result = libc.syscall(*arguments)
    return 0 if result >= 0 else ctypes.get_errno()
print(attempt(435, 0, 0), attempt(999), attempt(428, 0, 0, 0), attempt(436, 100, 200, 0), flush=True)
os.write(1, b"alive\\n")
"""


@pytest.mark.skipif(seccomp.sandbox_program() is None, reason="no filter for this architecture")
def test_the_kernel_accepts_the_program() -> None:
    finished = subprocess.run([sys.executable, "-c", PROBE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout.split() == [str(errno.ENOSYS), str(errno.ENOSYS), str(errno.EPERM), "0", "alive"]


def test_fourteen_capabilities() -> None:
    assert len(sandbox.DEFAULT_CAPABILITIES) == 14
    assert syscalls.CAP_SYS_ADMIN not in [sandbox.ALL_CAPABILITIES.index(name) for name in sandbox.DEFAULT_CAPABILITIES]
