"""Two thousand damaged archives: nothing outside changes, nothing but our errors, little memory, little time.

Every archive is unpacked in a process of its own beside a canary directory. Where we and GNU tar both accept it, the trees
must be equal. ``IMG_FUZZ_COUNT`` and ``IMG_FUZZ_SEED`` make longer runs.
"""

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from img_core.archives import codecs
from img_core.archives.tar import Limits, OwnerPolicy, TarReader, extract
from img_core.archives.tar.extraction import Mode
from img_core.files import fs
from img_core.spec.errors import ArchiveError, HostError, ImgError
from img_core.testing import archives
from img_core.testing.archive_mutations import Mutation, mutations
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


def serve(arena: Path) -> None:
    """Unpack ``archive`` into ``root`` once per line on stdin, each time in a child of this small process."""
    for line in sys.stdin:
        label, codec, mode = line.split()
        mutation = Mutation(label, (arena / "archive").read_bytes(), None if codec == "None" else codec)
        outcome = unpack_in_child(mutation, arena / "root", cast(Mode, mode))
        sys.stdout.write(json.dumps(outcome.__dict__) + "\n")
        sys.stdout.flush()


class Server:
    """The small process: a fork of the test runner would start with the memory of all tests so far."""

    def __init__(self, arena: Path) -> None:
        self.arena = arena
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(arena)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def unpack(self, mutation: Mutation, mode: Mode) -> Outcome:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        (self.arena / "archive").write_bytes(mutation.data)
        self.process.stdin.write(f"{mutation.label} {mutation.codec} {mode}\n")
        self.process.stdin.flush()
        outcome = Outcome(**json.loads(self.process.stdout.readline()))
        (self.arena / "archive").unlink()
        return outcome

    def close(self) -> None:
        self.process.communicate()


@pytest.fixture
def server(arena: Path) -> Iterator[Server]:
    made = Server(arena)
    yield made
    made.close()


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
        ours, other = _without_notes(fingerprint(str(root), times=False)), fingerprint(str(theirs), times=False)
        if ours == other:
            return ""
        return f"{mutation.label}: " + "; ".join(
            f"{path!r}: ours {ours.get(path)}, theirs {other.get(path)}"
            for path in sorted({*ours, *other})
            if ours.get(path) != other.get(path)
        )
    finally:
        fs.remove_tree(str(theirs))


def _without_notes(tree: dict[bytes, tuple[Any, ...]]) -> dict[bytes, tuple[Any, ...]]:
    """Return *tree* without what we note of attributes that nobody but root may set; GNU tar drops those."""
    return {
        path: (*entry[:6], tuple(pair for pair in entry[6] if not pair[0].startswith("user.img.")), *entry[7:])
        for path, entry in tree.items()
    }


def put_lower_layer(root: Path, canary: Path) -> None:
    """What an earlier layer left: something to delete, to replace and to be led astray by."""
    (root / "etc/sub").mkdir(parents=True)
    (root / "etc/f").write_text("lower")
    (root / "etc/sub/f").write_text("lower")
    (root / "etc/l").symlink_to(canary)
    (root / "l").symlink_to("../canary")
    (root / "d").symlink_to("/")
    (root / "f").mkdir()
    (root / "f/f").symlink_to(canary / "file")


@pytest.mark.slow
def test_damaged_archives_end_in_one_line_or_in_the_tree_that_gnu_tar_makes(arena: Path, server: Server) -> None:
    canary = arena / "canary"
    untouched = fingerprint(str(canary), changes=True)
    problems: list[str] = []
    accepted = 0
    for number, mutation in enumerate(mutations(SEED, COUNT, bytes(canary))):
        mode = MODES[number % 3]
        root = arena / "root"
        root.mkdir()
        if mode == "layer-apply":
            put_lower_layer(root, canary)
        outcome = server.unpack(mutation, mode)
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


def swap_until_killed(root: Path) -> None:
    """Exchange directories with links to the outside, as a step of the same image might while we unpack."""
    while True:
        for first, second in (("d", "aside"), ("link", "d"), ("d", "link"), ("aside", "d")):
            try:
                os.rename(root / first, root / second)
            except OSError:
                pass


def test_renames_under_our_hands_lead_nowhere(arena: Path) -> None:
    canary = arena / "canary"
    untouched = fingerprint(str(canary), changes=True)
    kinds = [archives.directory(b"d/"), archives.entry(b"d/f", b"x"), archives.symlink(b"d/s", b"f"),
             archives.hard_link(b"d/h", b"d/f"), archives.entry(b"d/.wh.file"), archives.entry(b"d/.wh.dir"),
             archives.directory(b"d/dir/", 0o700), archives.entry(b"d/.wh..wh..opq"), archives.header(b"d/p", kind=b"6"),
             archives.entry(b"d/dir/file", b"x")]  # fmt: skip
    archive = b"".join(kinds) * 5 + archives.END
    root = arena / "root"
    (root / "d").mkdir(parents=True)
    (root / "link").symlink_to(canary)
    swapper = os.fork()
    if not swapper:
        try:
            swap_until_killed(root)
        finally:
            os._exit(1)
    refused = unpacked = 0
    try:
        end = time.monotonic() + float(os.environ.get("IMG_RACE_SECONDS", "4"))
        while time.monotonic() < end:
            for mode in MODES:
                try:
                    refused += unpack(Mutation("race", archive, None), root, mode)[0]
                except ImgError:
                    refused += 1
                unpacked += 1
            try:
                fs.remove_tree(str(root / "aside"))
                fs.remove_tree(str(root / "d"))
            except (OSError, ImgError):  # somebody else moves what we remove: any error will do, an escape will not
                pass
            for name, make in (("d", os.mkdir), ("link", lambda path: os.symlink(canary, path))):
                try:
                    make(root / name)
                except FileExistsError:
                    pass
    finally:
        os.kill(swapper, signal.SIGKILL)
        os.waitpid(swapper, 0)
    assert fingerprint(str(canary), changes=True) == untouched
    assert sorted(os.listdir(arena)) == ["canary", "root"]
    assert unpacked > 20


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
