"""Each byte of a context is read once, for key, snapshot and layer together: counted by what strace(1) sees."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from harness.host import AS_ROOT, need
from harness.img import Img
from harness.steps import made

pytestmark = pytest.mark.rootless

_CALLS = "read,pread64,readv,preadv,preadv2,copy_file_range,sendfile,splice,mmap"
#: ``name(5</path>, …) = 17``, and the source of sendfile(2), which comes second
_READ = re.compile(r"^(\w+)\((?:\d+<[^>]*>, )?\d+<(/[^>]*)>.* = (\d+)$")

SIZES = {"changed": 300_000, "renamed": 5_000, "same": 70_000, "empty": 0}
#: More than is kept in memory between the key and the copy: decided by an outline, for which large files are looked at in three places.
LARGE = 20 << 20
SAMPLED = 3 * 4096
SETTLED_NS = (
    2_100_000_000  # a younger file may have changed without a visible change of its times: see `img_core.files.copy`
)
#: Directories of the context, each with the instruction that brings it, in a stage of its own: so something is recorded on its base.
COPIES = {
    "plain": "COPY plain /",
    "added": "ADD added /",
    "owned": "COPY --chown=7:8 owned /owned",
    "moded": "COPY --chmod=640 moded /moded",
    "linked": "COPY --link --chmod=600 linked /linked",
    "parents/a": "COPY --parents parents/./*/* /parents",
    "named": "COPY named/* /named/",
    "weights": "COPY --chmod=600 weights /weights",
}
STAGES = [f"FROM scratch AS s{number}\n{instruction}" for number, instruction in enumerate(COPIES.values())]
DOCKERFILE = "\n".join(
    [
        *STAGES,
        "FROM scratch",
        *(f"COPY --from=s{number} / /{number}" for number in range(len(COPIES))),
        "COPY . /all",
        "",
    ]
)


def traced_build(img: Img, context: Path, directory: Path) -> tuple[list[str], Counter[str]]:
    """Build *context*; return the steps that were made, and how many bytes were read of each of its files."""
    directory.mkdir()
    # A file for each thread: no call is told in two lines.
    command = ["strace", "-ff", "-qq", "-y", "-e", f"trace={_CALLS}", "-o", str(directory / "trace")]
    words = [*command, *img.command("build", "-t", "built", context)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=img.environment())
    found: Counter[str] = Counter()
    for trace in directory.iterdir():
        for line in trace.read_text(errors="replace").splitlines():
            called = _READ.match(line)
            if called and called[2].startswith(f"{context}/"):
                found[os.path.relpath(called[2], context)] += int(called[3])
    return made(done.stderr), found


def fill(context: Path) -> None:
    """Make the files, and wait until they are so old that their times tell whether they change."""
    (context / "Dockerfile").write_text(DOCKERFILE)
    for directory in COPIES:
        (context / directory).mkdir(parents=True)
        for name, size in SIZES.items():
            (context / directory / name).write_bytes(os.urandom(size))
    (context / "weights/large").write_bytes(os.urandom(LARGE))
    while time.time_ns() - (context / directory / name).stat().st_ctime_ns < SETTLED_NS:
        time.sleep(0.05)


def change(context: Path) -> None:
    """Let each directory have a file that changed, one that is new, and one with another name."""
    for directory in COPIES:
        (context / directory / "changed").write_bytes(os.urandom(SIZES["changed"]))
        (context / directory / "new").write_bytes(os.urandom(100_000))
        (context / directory / "renamed").rename(context / directory / "again")
    (context / "weights/large").write_bytes(os.urandom(LARGE))
    touch(context / "weights/large", 1)


def touch(path: Path, hours: int) -> None:
    """Let *path* be of a time to come, which never tells whether it changed again, however slow a build is."""
    os.utime(path, (time.time() + 3600 * hours,) * 2)


def test_each_byte_of_a_context_is_read_once(img: Img, tmp_path: Path) -> None:
    need("strace")
    # One id, because newuidmap(1) has no set-user-id bit for who is traced.
    img = img.with_environment(**({} if AS_ROOT else {"IMG_IDMAP": "single"}))
    context = tmp_path / "context"
    context.mkdir()
    fill(context)

    def twice(sampled: int) -> dict[str, int]:
        """Return what it is to read each file once for each of two instructions, and *sampled* times what an outline has of large ones."""
        files = [path for directory in COPIES for path in (context / directory).iterdir()]
        sizes = {path: path.stat().st_size for path in files if path.stat().st_size}
        return {
            str(path.relative_to(context)): 2 * size + sampled * SAMPLED * (size >= LARGE)
            for path, size in sizes.items()
        }

    def read_by(build: str) -> tuple[int, dict[str, int]]:
        steps, read = traced_build(img, context, tmp_path / build)
        read.pop("Dockerfile", 0)
        return len(steps), read

    made_first, read = read_by("first")
    assert (made_first >= 2 * len(COPIES) + 1, read) == (True, twice(1)), "the second knows it by its times"
    made_now, read = read_by("unchanged")
    assert (made_now, read) == (0, {})
    change(context)
    made_now, read = read_by("changed")
    assert (made_now, read) == (made_first, twice(2))
    touch(context / "weights/large", 2)
    made_now, read = read_by("touched")
    assert (made_now, {name: read[name] for name in read if read[name] >= LARGE}) == (
        0,
        {"weights/large": 2 * (LARGE + SAMPLED)},
    )
