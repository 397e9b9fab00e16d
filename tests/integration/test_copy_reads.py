"""Each byte of a context is read once, for key, snapshot and layer together: counted by what strace(1) sees."""

from __future__ import annotations

import os
import re
import subprocess
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

SIZES = {"small": 5_000, "middle": 300_000, "sub/large": 3_000_001, "added": 200_000, "empty": 0}
LOOKS = 20_000  # what may be read of a file to see whether it is an archive
DOCKERFILE = """\
FROM scratch AS stage
COPY small middle /
FROM scratch
COPY . /all
ADD added /
COPY --link --chmod=600 sub /linked
COPY --from=stage / /stage
"""


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


def test_each_byte_of_a_context_is_read_once(img: Img, tmp_path: Path) -> None:
    need("strace")
    # One id, because newuidmap(1) has no set-user-id bit for who is traced.
    img = img.with_environment(**({} if AS_ROOT else {"IMG_IDMAP": "single"}))
    context = tmp_path / "context"
    for name, size in SIZES.items():
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_bytes(os.urandom(size))
    (context / "Dockerfile").write_text(DOCKERFILE)
    steps, read = traced_build(img, context, tmp_path / "first")
    assert len(steps) == 6, "the link is one of its own"
    read.pop("Dockerfile")
    most = {name: 2 * size for name, size in SIZES.items()} | {"Dockerfile": 10_000}  # two steps bring each
    most["added"] += LOOKS
    assert read["added"] in range(2 * SIZES["added"], most["added"])
    assert {name: count for name, count in read.items() if name != "added"} == {
        name: 2 * size for name, size in SIZES.items() if size and name != "added"
    }
    steps, read = traced_build(img, context, tmp_path / "second")
    assert steps == []
    assert not read - Counter(most)
