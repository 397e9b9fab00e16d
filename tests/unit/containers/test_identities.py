"""Who a process of a step believes to be: what the calls of credentials(7) make of an identity."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from img_lib_containers.identities import (
    ROOT,
    Identities,
    ProcessIds,
    after_program,
    changed,
    with_groups,
    with_keeping,
)
from img_lib_containers.owner_calls import Refusal

KEEP = 0xFFFFFFFF
BOB = ProcessIds((5, 5, 5), (6, 6, 6), (7,), capable=False)


@pytest.mark.parametrize(
    ("before", "calls", "uids"),
    [
        (ROOT, [("setuid", 5)], (5, 5, 5)),
        (ROOT, [("setresuid", 1, 2, 3)], (1, 2, 3)),
        (ROOT, [("setresuid", KEEP, 2, KEEP)], (0, 2, 0)),
        (ROOT, [("setresuid", KEEP, 2, KEEP), ("setuid", 0)], (0, 0, 0)),
        (ROOT, [("setreuid", KEEP, 5)], (0, 5, 5)),
        (ROOT, [("setreuid", 5, KEEP)], (5, 0, 0)),
        (ROOT, [("setreuid", KEEP, 0)], (0, 0, 0)),
        (ROOT, [("setreuid", 0, 5), ("setreuid", 5, 0)], (5, 0, 0)),
        (BOB, [("setuid", 5)], (5, 5, 5)),
        (ProcessIds((5, 6, 7), capable=False), [("setuid", 7)], (5, 7, 7)),
        (ProcessIds((5, 6, 7), capable=False), [("setresuid", 7, 5, 6)], (7, 5, 6)),
    ],
)
def test_ids_change_as_the_kernel_changes_them(
    before: ProcessIds, calls: list[tuple[str, int]], uids: tuple[int, int, int]
) -> None:
    identity = before
    for name, *arguments in calls:
        identity = changed(identity, name, tuple(arguments), 32)
    assert identity.uids == uids


@pytest.mark.parametrize(
    ("before", "name", "arguments", "number"),
    [
        (BOB, "setuid", (0,), errno.EPERM),
        (BOB, "setgid", (0,), errno.EPERM),
        (BOB, "setresuid", (KEEP, KEEP, 0), errno.EPERM),
        (BOB, "setreuid", (0, KEEP), errno.EPERM),
        (ROOT, "setuid", (KEEP,), errno.EINVAL),
        (ROOT, "setgid", (0xFFFF,), errno.EINVAL),  # of 16 bits
    ],
)
def test_what_the_kernel_refuses_is_refused(
    before: ProcessIds, name: str, arguments: tuple[int, ...], number: int
) -> None:
    with pytest.raises(Refusal) as refusal:
        changed(before, name, arguments, 16 if arguments == (0xFFFF,) else 32)
    assert refusal.value.number == number


def test_who_is_no_longer_root_may_change_groups_only_with_kept_capabilities() -> None:
    gone = changed(ROOT, "setuid", (5,), 32)
    with pytest.raises(Refusal):
        with_groups(gone, (1,))
    kept = changed(with_keeping(ROOT, keeps=True), "setresuid", (5, 5, 5), 32)
    assert changed(with_groups(kept, (1, 2)), "setresgid", (9, 9, 9), 32).gids == (9, 9, 9)
    assert not after_program(kept, None, None).capable


def test_a_program_with_set_id_bits_becomes_its_owner() -> None:
    raised = after_program(BOB, 0, None)
    assert (raised.uids, raised.gids, raised.capable) == ((5, 0, 0), (6, 6, 6), True)
    assert after_program(ProcessIds((0, 5, 0), capable=False), None, None).uids == (0, 5, 5)


@pytest.fixture
def child() -> Iterator[int]:
    """Give a process that ends when the test does; it has forked one more and waits for it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    yield pid
    os.close(write)
    os.waitpid(pid, 0)


def test_an_identity_stays_with_its_process(child: int) -> None:
    identities = Identities()
    assert identities.of(child) == ROOT
    identities.give(child, BOB)
    identities.give(child, BOB)
    assert identities.of(child) == BOB
    assert identities.of(os.getpid()) == ROOT
    identities.give(child, ROOT)
    assert identities.of(child) == ROOT


@pytest.mark.parametrize(
    ("identity", "root"),
    [
        (ROOT, True),
        (with_groups(ROOT, (0,)), True),  # as every step of root begins
        (with_keeping(ROOT, keeps=True), False),
        (changed(ROOT, "setresuid", (KEEP, 5, KEEP), 32), False),
        (changed(ROOT, "setgid", (5,), 32), False),
        (ProcessIds(capable=False), False),
        (BOB, False),
    ],
)
def test_who_is_root_whatever_its_groups(child: int, identity: ProcessIds, root: bool) -> None:
    identities = Identities()
    identities.give(child, BOB)
    identities.give(child, identity)
    assert identities.is_root(child) == root
    assert identities.is_root(os.getpid())
