"""How cost grows with size: of files, steps, stages, layers of a base, bytes of a layer. Time per unit and memory should stay flat.

``nox -s bench -- --scale``, with the names of some curves for those only, and ``--part N`` for all sizes divided by N. What counts is the
processor time of img and of all that it starts, which a machine that is busy with other work hardly changes.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from measure import clean_environment, remove

from img_core.testing.images import make_image, write_layout

__all__ = ["CURVES", "Point", "growth", "picture", "table", "write"]

_HALVES = 3  #: a curve has its largest size, half of it, and so on


@dataclass(frozen=True)
class Point:
    """What building something of a *size* took: seconds of processor time, and of memory the largest process, in MiB."""

    size: int
    seconds: float
    cached_seconds: float
    megabytes: float


def measured(command: list[str]) -> tuple[float, float]:
    """Return the processor time of *command* and all its children in seconds, and its peak memory in MiB."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    pid = os.posix_spawn(command[0], command, clean_environment(), file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def files(context: Path, size: int) -> str:
    """COPY of *size* small files."""
    for number in range(size):
        if number % 100 == 0:
            (context / f"files/{number // 100}").mkdir(parents=True)
        (context / f"files/{number // 100}/{number}").write_bytes(b"%d" % number * 50)
    return "FROM scratch\nCOPY files /files\n"


def steps(context: Path, size: int) -> str:
    """*size* instructions in two stages, because an image has 1,000 layers at most (`img_core.images.oci`): a process, a variable, a file
    and a directory in turn."""
    (context / "file").write_text("x")
    shutil.copy(
        shutil.which("busybox") or sys.exit("the benchmark needs busybox (apt install busybox-static)"), context
    )
    words = (
        'RUN ["/busybox", "true", "{0}"]',
        "ENV variable=value{0}",
        "COPY file /files/{0}",
        "WORKDIR /directories/{0}",
    )
    lines = [words[number % len(words)].format(number) for number in range(size)]
    start = "FROM scratch{0}\nCOPY busybox /\n"
    first, second = lines[: size // 2], lines[size // 2 :]
    return "\n".join([start.format(" AS one"), *first, start.format(""), "COPY --from=one /files /files", *second, ""])


def stages(context: Path, size: int) -> str:
    """*size* stages of one COPY, and one that copies from each."""
    (context / "file").write_text("x")
    made = "".join(f"FROM scratch AS s{number}\nCOPY file /f{number}\n" for number in range(size))
    return made + "FROM scratch\n" + "".join(f"COPY --from=s{number} /f{number} /\n" for number in range(size))


def layers(context: Path, size: int) -> str:
    """COPY of one file onto a base of *size* layers, which lies beside the context as an image layout."""
    (context / "file").write_text("x")
    write_layout(context.parent / "base", {"1": make_image({f"f{number}": b"x"} for number in range(size))})
    return "FROM base\nCOPY file /f0\n"


def mebibytes(context: Path, size: int) -> str:
    """COPY of one file of *size* MiB that cannot be compressed."""
    block = os.urandom(1 << 20)
    with (context / "file").open("wb") as file:
        for _ in range(size):
            file.write(block)
    return "FROM scratch\nCOPY file /\n"


#: Each with the largest size that has to work.
CURVES: dict[str, tuple[Callable[[Path, int], str], int]] = {
    "files": (files, 100_000),
    "steps": (steps, 2_000),
    "stages": (stages, 200),
    "layers": (layers, 500),
    "mebibytes": (mebibytes, 4_096),
}


def growth(work: Path, name: str, part: int = 1) -> list[Point]:
    """Measure the curve *name*, up to its largest size divided by *part*."""
    make, largest = CURVES[name]
    points = []
    for halves in reversed(range(_HALVES + 1)):
        size = largest // part >> halves
        place = work / f"{name}{size}"
        (place / "context").mkdir(parents=True)
        (place / "context/Dockerfile").write_text(make(place / "context", size))
        command = [sys.executable, "-m", "img_core", "-s", str(place / "state"), "build", "-q", "-t", "out"]
        if name == "layers":
            command += ["--build-context", f"base=oci-layout://{place / 'base'}:1"]
        command.append(str(place / "context"))
        (cold, megabytes), (cached, _) = measured(command), measured(command)
        remove(place)
        points.append(Point(size, cold, cached, megabytes))
        print(f"{name} {size}: {cold:.2f} s, cached {cached:.2f} s, {megabytes:.0f} MiB", file=sys.stderr, flush=True)
    return points


def table(curves: dict[str, list[Point]]) -> str:
    """Return all points as a table in Markdown."""
    lines = [
        "| what | how many | processor time, s | each, ms | again, all cached, s | peak memory, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for name, points in curves.items():
        lines += [
            f"| {name} | {point.size:,} | {point.seconds:.1f} | {point.seconds / point.size * 1000:.2f} | {point.cached_seconds:.2f}"
            f" | {point.megabytes:.0f} |"
            for point in points
        ]
    return "\n".join(lines) + "\n"


_LEFT, _TOP, _WIDTH, _HEIGHT, _GAP = 60, 40, 210, 140, 60
_COLOURS = {"time per unit": "#1b6ca8", "memory": "#b5651d"}


def picture(curves: dict[str, list[Point]]) -> str:
    """Return a picture with a square for each curve: time per unit and memory, both relative to those of the smallest size; SVG."""
    parts = []
    for number, (name, points) in enumerate(curves.items()):
        x = _LEFT + number * (_WIDTH + _GAP)
        first = points[0]
        lines = {
            "time per unit": [point.seconds / point.size / (first.seconds / first.size) for point in points],
            "memory": [point.megabytes / first.megabytes for point in points],
        }
        top = max(2.0, *(value for values in lines.values() for value in values))
        parts.append(f'<text x="{x}" y="{_TOP - 10}" font-weight="bold">{escape(name)}</text>')
        parts.append(f'<rect x="{x}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#888"/>')
        for value in (1.0, top):
            y = _TOP + _HEIGHT * (1 - value / top)
            parts.append(f'<text x="{x - 6}" y="{y + 4:.0f}" text-anchor="end">{value:.1f}</text>')
        for label, values in lines.items():
            places = [
                (x + _WIDTH * point.size / points[-1].size, _TOP + _HEIGHT * (1 - value / top))
                for point, value in zip(points, values, strict=True)
            ]
            spots = " ".join(f"{across:.0f},{down:.0f}" for across, down in places)
            parts.append(f'<polyline points="{spots}" fill="none" stroke="{_COLOURS[label]}" stroke-width="2"/>')
        for size in (points[0].size, points[-1].size):
            across = x + _WIDTH * size / points[-1].size
            parts.append(f'<text x="{across:.0f}" y="{_TOP + _HEIGHT + 16}" text-anchor="middle">{size:,}</text>')
    for number, (label, colour) in enumerate(_COLOURS.items()):
        parts.append(f'<text x="{_LEFT + number * 110}" y="{_TOP + _HEIGHT + 38}" fill="{colour}">{label}</text>')
    width, height = _LEFT + len(curves) * (_WIDTH + _GAP), _TOP + _HEIGHT + 50
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"


def write(curves: dict[str, list[Point]], directory: Path) -> None:
    """Write ``growth.md``, ``growth.json`` and ``growth.svg``."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "growth.md").write_text(table(curves))
    (directory / "growth.svg").write_text(picture(curves))
    document = {name: [asdict(point) for point in points] for name, points in curves.items()}
    (directory / "growth.json").write_text(json.dumps(document, indent=1) + "\n")
