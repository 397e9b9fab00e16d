"""Steps on a Debian root in an unmodified container and on this machine, in alternation: wall time and processor time; as root.

Each candidate has a file system of its own. ext4 does not use the number of a file that was removed a short while ago, and looks at each
such number for each file that is made: what one step removes would be paid by the next ones, whoever they belong to. So before each step
the tables in which it looks are written and forgotten.

Each measured build adds one step to those before it, so its base is there already. What a build of `true` takes, with the start of the
container and of the interpreter, is measured in the same way before each of them, and the median is subtracted: it is as much as some of
the works take.
"""

from __future__ import annotations

import fcntl
import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from measure import Figure
from report import Report

from harness.bases import write_oci_archive
from harness.host import fixture_file
from harness.img import Img
from harness.unmodified import Box
from img_core.linux import syscalls

__all__ = ["KINDS", "steps_in_containers"]

#: the containers and who builds in them: the executor `chroot`, `swap`, and three in which steps only believe that they are root
KINDS = {
    "root": "chroot",
    "cri-o-root": "swap",
    "host-users-false-drop-all": "fake root",
    "restricted-open-root": "fake root",
    "restricted-prepared": "fake root",
}
TRUE = "true"
_DISK_SIZE = 6 << 30  # of a sparse file
_FORGET_BUFFERS = 0x1261  # BLKFLSBUF
#: all below /srv, since a step of the last can make no name in `/`, and none looks at what only some have there
WORKS = {
    "40 programs compiled": "mkdir -p /srv/b && cd /srv/b && for i in $(seq 40); do echo '#include <stdio.h>' > a$i.c; "
    "echo 'int main(){puts(\"hi\");return 0;}' >> a$i.c; gcc -O1 -o a$i a$i.c && ./a$i > /dev/null || exit 1; done && rm -r /srv/b",
    "a tree packed, unpacked and removed": "tar -C /usr/share -cf /srv/x.tar . && mkdir /srv/d && tar -C /srv/d -xf /srv/x.tar "
    "&& rm -r /srv/d /srv/x.tar",
    "400 programs started": "for i in $(seq 400); do /bin/true; done",
    "all files listed and measured": "find /usr /etc /var -xdev -type f 2> /dev/null | wc -l && du -sx /usr > /dev/null",
    "packages verified, a user added": "dpkg --audit && dpkg -V coreutils gcc || true; useradd -m user$RANDOM && chown -R 1:1 /var/mail",
}


@dataclass(slots=True)
class _Candidate:
    name: str
    img: Img
    write: Path  #: its Dockerfile, as this process names it
    context: Path  #: the directory of that, as the command names it
    text: str = 'FROM debian\nSHELL ["/bin/bash", "-c"]\n'
    figures: dict[tuple[str, str], Figure] = field(default_factory=dict)

    def step(self, work: str, command: str, number: int) -> None:
        """Add one step and note what building it takes."""
        self.text += f"RUN : {number}; {command}\n"
        self.write.write_text(self.text)
        before, began = _processor_seconds(), _now()
        self.img.build(self.context).ok()
        for unit, seconds in (("s", _now() - began), ("processor s", _processor_seconds() - before)):
            self.figures.setdefault((work, unit), Figure(self.name, [])).seconds.append(seconds)

    def alone(self, work: str, unit: str) -> Figure:
        """Return what the *work* itself took, in each round."""
        base = self.figures["", unit].middle
        return Figure(self.name, [seconds - base for seconds in self.figures[work, unit].seconds])

    def whole(self, unit: str) -> Figure:
        """Return what all works took together, in each round."""
        single = [self.alone(work, unit).seconds for work in WORKS]
        return Figure(self.name, [sum(each) for each in zip(*single, strict=True)])


@contextmanager
def _disk(directory: Path) -> Iterator[Path]:
    """Give *directory* a file system of its own; the value is the device that it is on."""
    image = directory.with_name(f"{directory.name}.ext4")
    image.touch()
    os.truncate(image, _DISK_SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    directory.mkdir()
    device = subprocess.run(
        ["losetup", "-f", "--show", str(image)], check=True, capture_output=True, text=True
    ).stdout.strip()
    with ExitStack() as undo:
        undo.callback(subprocess.run, ["losetup", "-d", device], check=True)
        subprocess.run(["mount", device, str(directory)], check=True)
        undo.callback(subprocess.run, ["umount", str(directory)], check=True)
        yield Path(device)


def _settle(devices: Sequence[Path]) -> None:
    """Write what waits to be written on *devices*, and forget their tables."""
    for device in devices:
        fd = os.open(device, os.O_RDONLY)
        fcntl.ioctl(fd, _FORGET_BUFFERS)
        os.close(fd)


def _now() -> float:
    return os.times().elapsed


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def steps_in_containers(rounds: int, kinds: Sequence[str], report: Report) -> None:
    """Measure in containers of these *kinds* (of `KINDS`); the first candidate is the executor `userns` with overlayfs."""
    syscalls.unshare(syscalls.CLONE_NEWNS)  # or others would inherit our mounts, and keep them
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    with tempfile.TemporaryDirectory(prefix="img-bench-", dir="/var/tmp") as base, ExitStack() as disks:
        directory = Path(base)
        devices = [disks.enter_context(_disk(directory / name)) for name in ("userns", *kinds)]
        archive = write_oci_archive(
            directory / "debian.tar", [fixture_file("debian.tar").read_bytes()], name="docker.io/library/debian:latest",
            config={"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        )  # fmt: skip
        here, context = Img(directory / "userns/state", directory), directory / "userns/context"
        here.run("load", "-q", "-i", archive).ok()
        context.mkdir()
        candidates = [_Candidate("userns", here, context / "Dockerfile", context)]
        boxes = [Box.make(directory / kind / "layer", kind, archive) for kind in kinds]
        for box in boxes:
            place = f"{box.home}/in/context"
            box.put(f"{place}/Dockerfile", "")
            box.inside(f"{box.home}/in/base.tar").unlink()
            name = f"{box.kind} ({KINDS[box.kind]})"
            candidates.append(_Candidate(name, box.img(), box.inside(f"{place}/Dockerfile"), Path(place)))
        for candidate in candidates:
            candidate.step("", TRUE, 0)  # unpacks the base
        for number in range(1, rounds + 1):
            for work, command in WORKS.items():
                for name, what in (("", f": before {work}; {TRUE}"), (work, command)):
                    for candidate in candidates:
                        _settle(devices)
                        candidate.step(name, what, number)
        for candidate in candidates:
            for unit in ("s", "processor s"):
                candidate.figures["", unit].seconds.pop(0)
        for unit in ("s", "processor s"):
            report.add(
                "a build of one `RUN true` on Debian, whole", [each.figures["", unit] for each in candidates], unit=unit
            )
            for work in WORKS:
                report.add(f"step: {work}", [each.alone(work, unit) for each in candidates], unit=unit)
            report.add("all of these", [each.whole(unit) for each in candidates], unit=unit)
        for box in boxes:
            box.remove()
