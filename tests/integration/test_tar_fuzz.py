"""Two thousand damaged archives: nothing outside changes, nothing but our errors, little memory, little time.

Every archive is unpacked in a process of its own beside a canary directory. Where we and GNU tar both accept it, the trees
must be equal. ``IMG_FUZZ_COUNT`` and ``IMG_FUZZ_SEED`` make longer runs.
"""

import io
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from img_core.kit import codecs, fs
from img_core.kit.tar import Limits, OwnerPolicy, TarReader, extract
from img_core.kit.tar.extract import Mode
from img_core.spec.errors import ArchiveError, HostError, ImgError
from img_core.testing.archives import Mutation, mutations
from img_core.testing.trees import fingerprint, unpack_with_gnu_tar

COUNT = int(os.environ.get("IMG_FUZZ_COUNT", "2000"))
SEED = int(os.environ.get("IMG_FUZZ_SEED", "1"))
MEMORY_LIMIT = 200 << 20
TIME_LIMIT = 5.0
MODES: tuple[Mode, ...] = ("plain", "layer-apply", "layer-overlay")
OWNERS = OwnerPolicy() if os.geteuid() == 0 else OwnerPolicy(force=(os.geteuid(), os.getegid()))

ACCEPTED, REFUSED, CRASHED = 0, 1, 2


@dataclass
class Outcome:
    status: int  #: what the process ended with, negative for a signal
    report: str  #: message or traceback
    memory: int  #: peak resident bytes
    seconds: float


@pytest.fixture
def arena() -> Iterator[Path]:
    """A directory on a fast file system: the tests make and remove some ten thousand files."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    made = Path(tempfile.mkdtemp(prefix="img-fuzz-", dir=base))
    (made / "canary/dir").mkdir(parents=True)
    (made / "canary/file").write_text("untouched")
    yield made
    fs.remove_tree(str(made))


def peak_memory() -> int:
    """VmHWM of this process; wait4(2) would count what the parent had at the time of the fork."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmHWM in /proc/self/status")


def unpack(mutation: Mutation, root: Path, mode: Mode) -> tuple[int, str]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        source = codecs.open_decompressed(io.BytesIO(mutation.data), mutation.codec)
        extract(TarReader(source, limits=Limits(total_size=1 << 30)), fd, mode=mode, owners=OWNERS)
    except ArchiveError as err:
        assert err.message.isprintable(), repr(err.message)
        return REFUSED, err.message
    except HostError as err:
        if "is not available here" not in err.message:  # the only thing a host may lack: ids in a user namespace
            raise
        return REFUSED, err.message
    finally:
        os.close(fd)
    return ACCEPTED, ""


def unpack_in_child(mutation: Mutation, root: Path, mode: Mode) -> Outcome:
    report, writing = os.pipe()
    began = time.monotonic()
    pid = os.fork()
    if not pid:
        status, text = CRASHED, ""
        try:
            signal.alarm(int(TIME_LIMIT))  # the default action ends the process
            status, text = unpack(mutation, root, mode)
        except ImgError as err:  # our fault or the host's: never what an archive may cause
            text = f"unexpected {type(err).__name__}: {err.message}"
        except BaseException:
            text = traceback.format_exc()
        os.write(writing, f"{peak_memory()} {text}".encode(errors="replace")[:60_000])
        os._exit(status)
    os.close(writing)
    with os.fdopen(report, "rb") as pipe:
        memory, _, text = pipe.read().decode().partition(" ")
    _, status = os.waitpid(pid, 0)
    return Outcome(os.waitstatus_to_exitcode(status), text, int(memory or 0), time.monotonic() - began)


def plain_bytes(mutation: Mutation) -> bytes:
    source = codecs.open_decompressed(io.BytesIO(mutation.data), mutation.codec)
    return b"".join(iter(lambda: source.read(1 << 20), b""))


def difference_to_gnu_tar(mutation: Mutation, root: Path, arena: Path) -> str:
    """Compare with GNU tar where both accept; empty when equal."""
    theirs = arena / "gnu"
    theirs.mkdir()
    try:
        if not unpack_with_gnu_tar(plain_bytes(mutation), str(theirs)):
            return ""
        ours, other = fingerprint(str(root), times=False), fingerprint(str(theirs), times=False)
        if ours == other:
            return ""
        return f"{mutation.label}: " + "; ".join(
            f"{path!r}: ours {ours.get(path)}, theirs {other.get(path)}"
            for path in sorted({*ours, *other})
            if ours.get(path) != other.get(path)
        )
    finally:
        fs.remove_tree(str(theirs))


@pytest.mark.slow
def test_damaged_archives_end_in_one_line_or_in_the_tree_that_gnu_tar_makes(arena: Path) -> None:
    canary = arena / "canary"
    untouched = fingerprint(str(canary), changes=True)
    problems: list[str] = []
    accepted = 0
    for number, mutation in enumerate(mutations(SEED, COUNT, bytes(canary))):
        mode = MODES[number % 3]
        root = arena / "root"
        root.mkdir()
        outcome = unpack_in_child(mutation, root, mode)
        if outcome.status not in (ACCEPTED, REFUSED):
            problems.append(f"{mutation.label} ({mode}): {outcome.status} {outcome.report}")
        if outcome.memory > MEMORY_LIMIT or outcome.seconds > TIME_LIMIT:
            problems.append(f"{mutation.label}: {outcome.memory >> 20} MiB, {outcome.seconds:.1f} s")
        if fingerprint(str(canary), changes=True) != untouched or sorted(os.listdir(arena)) != ["canary", "root"]:
            pytest.fail(f"{mutation.label} ({mode}) escaped")
        if outcome.status == ACCEPTED:
            accepted += 1
            if mode == "plain" and (difference := difference_to_gnu_tar(mutation, root, arena)):
                problems.append(difference)
        fs.remove_tree(str(root))
    assert not problems, "\n".join(problems[:40])
    assert COUNT // 20 < accepted < COUNT * 9 // 10, f"{accepted} accepted: the mutations prove nothing"
