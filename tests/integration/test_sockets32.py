"""What 32-bit x86 programs get by ``socketcall``, whose arguments no filter can see: the same families as everybody else."""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.host import AS_ROOT, need
from harness.img import Img, write_context

pytestmark = [
    pytest.mark.rootless,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="only 32-bit x86 has such a call"),
]

SOURCE = Path(__file__).parents[1] / "harness" / "sockets32.c"
SURROUNDINGS = [
    *((executor, mapping) for executor in ("userns", "runc") for mapping in ("full", "single")),
    ("crun", "full"),
]
#: The user and the network of a step, and whether raw sockets are its to make.
STEPS = {
    "root": ("USER root", "none", True),
    "user": ("USER 1000:1000", "none", False),
    "host": ("USER root", "default", AS_ROOT),
}
SAME_EVERYWHERE = {
    "vsock": -errno.EPERM,
    "alg": -errno.EPERM,
    "unix": 0,
    "inet": 0,
    "inet6": 0,
    "netlink": 0,
    "no_family": -errno.EPERM,
    "no_type": -errno.EINVAL,
    "negative_type": -errno.EINVAL,
    "no_memory": -errno.EFAULT,
    "vsock_by_number": -errno.EPERM,
    "pair": 0,
    "closes_on_exec": 1,
    "blocks_not": os.O_NONBLOCK,
    "listens": 0,
    "stays_on_exec": 0,
    "blocks": 0,
    "too_many": -errno.EMFILE,
}


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the compiled program, which needs no library."""
    need("cc")
    path = tmp_path_factory.mktemp("sockets32") / "sockets32"
    flags = "-m32 -O1 -Wall -Werror -ffreestanding -nostdlib -static -fno-pic -no-pie -fno-stack-protector"
    subprocess.run(["cc", *flags.split(), "-o", path, SOURCE], check=True)
    return path


@pytest.mark.parametrize(("executor", "mapping"), SURROUNDINGS)
def test_families_are_closed_to_32_bit_programs_and_the_rest_works(
    img: Img, tmp_path: Path, program: Path, executor: str, mapping: str
) -> None:
    if executor != "userns":
        need(executor)
    if mapping == "single":
        if AS_ROOT:
            pytest.skip("root has all ids")
        img = img.with_environment(IMG_IDMAP="single")
    if executor == "crun":
        img, executor = img.with_environment(IMG_RUNTIME="crun"), "runc"
    shutil.copy(program, tmp_path / "sockets32")
    runs = "\n".join(f'{user}\nRUN --network={net} ["/sockets32", "{name}"]' for name, (user, net, _) in STEPS.items())
    write_context(tmp_path, f"FROM busybox\nCOPY sockets32 /\n{runs}\n")
    log = img.build(tmp_path, "--executor", executor, "--progress=plain").ok().stderr
    for name, (_, _, raw) in STEPS.items():
        step = re.search(rf"^#(\d+) \[.*\"{name}\"\]$", log, re.MULTILINE)
        assert step, log
        told = dict(re.findall(rf"^#{step[1]} \d+\.\d+ (\w+) (-?\d+)$", log, re.MULTILINE))
        assert set(told) == {*SAME_EVERYWHERE, "raw"}, log
        raw = raw or (mapping == "single" and name == "user")  # who has one id is root
        expected = {**SAME_EVERYWHERE, "raw": 0 if raw else -errno.EPERM}
        assert {key: int(value) for key, value in told.items()} == expected, name
