"""Small file systems that an ordinary user can make: of memory, and of a file through FUSE, with blocks of any size."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.host import need, tool_path
from harness.img import Finished, Img
from harness.processes import wait_until

__all__ = ["KINDS", "SmallDisk", "small_disk"]

KINDS = ("tmpfs", "ext4 with blocks of 1 KiB", "ext4 with blocks of 4 KiB")
_BLOCK_SIZES = dict(zip(KINDS[1:], (1024, 4096), strict=True))

_HOLD = """
import subprocess, sys
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + sys.argv[2], "tmpfs", sys.argv[1]], check=True)
print("mounted", flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A file system. Programs started with *prefix* see it at *path*; this process sees it at *outside*."""

    path: Path
    outside: Path
    prefix: tuple[str, ...] = ()

    def run(self, img: Img, *arguments: str | Path, timeout: float = 120) -> Finished:
        """Run a command there."""
        done = subprocess.run(
            [*self.prefix, *img.command(*arguments)],
            capture_output=True, env=img.environment(), timeout=timeout, check=False, cwd=img.home,
        )  # fmt: skip
        shown = tuple(map(str, arguments))
        return Finished(shown, done.returncode, done.stdout, done.stderr.decode(errors="backslashreplace"))

    def free(self) -> int:
        """Return the free bytes."""
        disk = os.statvfs(self.outside)
        return disk.f_bavail * disk.f_frsize

    def fill(self, leave: int) -> None:
        """Fill it but for about *leave* bytes."""
        fd = os.open(self.outside / "fill", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            for piece in (1 << 18, 1 << 12, 1 << 10):
                try:
                    while os.write(fd, os.urandom(piece)) == piece:
                        pass
                except OSError:
                    continue
            os.ftruncate(fd, max(os.lseek(fd, 0, os.SEEK_END) - leave, 0))
        finally:
            os.close(fd)

    def empty(self) -> None:
        """Remove what `fill` made."""
        (self.outside / "fill").unlink(missing_ok=True)


@contextmanager
def small_disk(kind: str, directory: Path, mebibytes: int) -> Iterator[SmallDisk]:
    """Make a disk of one of the `KINDS`, with *directory* for what is needed."""
    making = _tmpfs(directory, mebibytes) if kind == "tmpfs" else _ext4(directory, mebibytes, _BLOCK_SIZES[kind])
    with making as disk:
        yield disk


@contextmanager
def _tmpfs(directory: Path, mebibytes: int) -> Iterator[SmallDisk]:
    need("unshare", "nsenter", "mount")
    path = directory / "tmpfs"
    path.mkdir()
    holder = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--map-auto", "--mount", sys.executable, "-c", _HOLD, path, f"{mebibytes}m"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PATH": tool_path()},
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"mounted\n"
        enter = ("nsenter", f"--target={holder.pid}", "--user", "--mount", "--")
        yield SmallDisk(path, Path(f"/proc/{holder.pid}/root") / path.relative_to("/"), enter)
    finally:
        assert holder.stdin is not None
        holder.stdin.close()
        holder.wait(20)
        assert holder.stdout is not None
        holder.stdout.close()


@contextmanager
def _ext4(directory: Path, mebibytes: int, block_size: int) -> Iterator[SmallDisk]:
    need("mke2fs", "fuse2fs", "fusermount3")
    image, path = directory / "ext4.img", directory / "ext4"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(mebibytes << 20)
    variables = {**os.environ, "PATH": tool_path()}
    owner = f"root_owner={os.getuid()}:{os.getgid()}"
    options = ["-q", "-t", "ext4", "-O", "^has_journal", "-b", str(block_size), "-m", "0", "-E", owner]
    subprocess.run(["mke2fs", *options, image], check=True, env=variables)
    subprocess.run(["fuse2fs", "-o", "fakeroot", image, path], check=True, env=variables, capture_output=True)
    try:
        wait_until(lambda: os.path.ismount(path), "the disk is mounted")
        yield SmallDisk(path, path)
    finally:
        subprocess.run(["fusermount3", "-u", "-z", path], check=True, env=variables)
