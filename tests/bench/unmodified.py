"""Steps on a Debian root in an unmodified container and on this machine, in alternation: wall time and processor time; as root.

Each measured build adds one step to those before it, so its base is there already. What a build of `true` takes, with the start of the
container and of the interpreter, is measured in the same way and subtracted.
"""

from __future__ import annotations

import os
import resource
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from measure import Figure, difference
from report import Report

from harness.bases import write_oci_archive
from harness.host import fixture_file
from harness.img import Img
from harness.unmodified import Box

__all__ = ["steps_in_containers"]

KINDS = ("root", "host-users-false", "cri-o-root")
TRUE = "true"
WORKS = {
    "40 programs compiled": "mkdir -p /b && cd /b && for i in $(seq 40); do echo '#include <stdio.h>' > a$i.c; "
    "echo 'int main(){puts(\"hi\");return 0;}' >> a$i.c; gcc -O1 -o a$i a$i.c && ./a$i > /dev/null || exit 1; done && rm -r /b",
    "a tree packed, unpacked and removed": "tar -C /usr/share -cf /x.tar . && mkdir /d && tar -C /d -xf /x.tar "
    "&& rm -r /d /x.tar",
    "400 programs started": "for i in $(seq 400); do /bin/true; done",
    "all files listed and measured": "find / -xdev -type f 2> /dev/null | wc -l && du -sx /usr > /dev/null",
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


def _now() -> float:
    return os.times().elapsed


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def steps_in_containers(rounds: int, report: Report) -> None:
    """Measure; the first candidate is the executor `userns` with overlayfs."""
    with tempfile.TemporaryDirectory(prefix="img-bench-", dir="/var/tmp") as base:
        directory = Path(base)
        archive = write_oci_archive(
            directory / "debian.tar", [fixture_file("debian.tar").read_bytes()], name="docker.io/library/debian:latest",
            config={"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        )  # fmt: skip
        here = Img(directory / "state", directory)
        here.run("load", "-q", "-i", archive).ok()
        (directory / "context").mkdir()
        candidates = [_Candidate("userns", here, directory / "context/Dockerfile", directory / "context")]
        boxes = [Box.make(directory / kind, kind, archive) for kind in KINDS]
        for box in boxes:
            box.put("/context/Dockerfile", "")
            box.inside(f"{box.home}/in/base.tar").unlink()
            candidates.append(_Candidate(box.kind, box.img(), box.inside("/context/Dockerfile"), Path("/context")))
        for candidate in candidates:
            candidate.step("", TRUE, 0)  # unpacks the base
        for number in range(1, rounds + 1):
            for work, command in {"": TRUE, **WORKS}.items():
                for candidate in candidates:
                    candidate.step(work, command, number)
        for candidate in candidates:
            for unit in ("s", "processor s"):
                candidate.figures["", unit].seconds.pop(0)
        for unit in ("s", "processor s"):
            report.add(
                "a build of one `RUN true` on Debian, whole", [each.figures["", unit] for each in candidates], unit=unit
            )
            for work in WORKS:
                report.add(
                    f"step: {work}",
                    [difference(each.name, each.figures[work, unit], each.figures["", unit]) for each in candidates],
                    unit=unit,
                )
        for box in boxes:
            box.remove()
