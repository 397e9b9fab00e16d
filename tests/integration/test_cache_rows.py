"""Change one thing, build again: which steps run. The files and what must run are those of a comparison with BuildKit.

Steps are called by the last path in their text: ``c2`` is the one that writes ``/c2``. FROM lines and the stacking of ``--link`` do not
count. In *optional* stand steps that may run or not: the files that they copy are the same, but what they are copied onto is not.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from harness.build_server import Workshop
from harness.img import own_as_mapped_root
from harness.web import Page, WebServer, web_server

pytestmark = pytest.mark.rootless

Change = Callable[[Path], object]

FILES = """\
FROM B
WORKDIR /w1
COPY a.txt b.txt /c2/
COPY dir /c3
RUN cat /c2/a.txt > /r4
COPY c.txt /c5
RUN echo end > /r6
"""
ARGS = """\
FROM B
ARG V=1
ENV E=1 G=1
WORKDIR /w1
COPY a.txt /c2
RUN echo $V$E > /r3
ARG U
RUN echo r4 > /r4
LABEL l=1
CMD ["a"]
"""
STAGES = """\
FROM B AS base
RUN echo base > /r1
FROM base AS build
COPY src /c2
RUN cat /c2/a.txt > /r3
FROM base AS other
RUN echo other > /r4
FROM base
COPY --from=build /r3 /c5
COPY --from=other /r4 /c6
RUN echo done > /r7
"""
GRANDCHILDREN = STAGES.replace("FROM base\n", "RUN cat /r4 > /r8\nFROM base\n")
#: the same where the base gives something else each time
RANDOM = (
    GRANDCHILDREN.replace("echo base > /r1", "head -c 9 /dev/urandom | md5sum > /r1")
    .replace("echo other", "cat /r1")
    .replace("cat /c2/a.txt > /r3", "cat /c2/a.txt /r1 > /r3")
)
MOUNTS = """\
FROM B AS tool
RUN mkdir /r1 && echo tool > /r1/t && echo x > /r1/u; : /r1
FROM B
RUN --mount=type=cache,target=/k,id=a echo x >> /k/f; wc -l < /k/f > /r2
RUN --mount=type=secret,id=s wc -c < /run/secrets/s > /r3
RUN --mount=type=bind,source=dir,target=/m cat /m/f1 > /r4
RUN --mount=type=bind,from=tool,source=/r1,target=/m cat /m/t > /r5
RUN --mount=type=tmpfs,target=/m echo t > /r6
"""
LINKS = """\
FROM B
RUN echo below > /r1
COPY --link a.txt /c2/
COPY --link --chmod=0600 dir /c3
RUN cat /c2/a.txt > /r4
"""
WEB = """\
FROM B
ADD http://W/f.txt /a1
RUN cat /a1 > /r2
"""
ARCHIVE = """\
FROM B
ADD t.tar.gz /a1
RUN ls /a1 > /r2
"""
BASE = """\
FROM B
COPY a.txt /c1
RUN echo x > /r2
"""
CONTEXT = ("a.txt", "b.txt", "c.txt", "unused.txt", "dir/f1", "dir/sub/f2", "src/a.txt", "src/b.txt")


@dataclass(frozen=True, slots=True)
class Row:
    """A Dockerfile, one change, and the steps that run then. *edit* changes the Dockerfile, *change* the context, *base* the base image."""

    text: str
    ran: str = ""
    optional: str = ""
    edit: tuple[str, str] = ("", "")
    change: Change = lambda _context: None
    base: str = ""  #: an instruction that the base image gets
    base_options: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)  #: of the build after the change
    always: dict[str, Any] = field(default_factory=dict)  #: of all builds
    moved: bool = False  #: the page of the web server is newer
    why: str = ""  #: the reason of the first step that runs


def write(name: str, text: str = "other") -> Change:
    return lambda context: (context / name).write_text(f"{text}\n")


def mode(name: str, value: int) -> Change:
    return lambda context: (context / name).chmod(value)


def linked(context: Path) -> None:
    (context / "a.txt").rename(context / "real.txt")
    (context / "a.txt").symlink_to("real.txt")


def attribute(context: Path) -> None:
    try:
        os.setxattr(context / "a.txt", "user.x", b"1")
    except OSError:
        pytest.skip("this file system has no user attributes")


def archive(level: int, *more: str) -> Change:
    def pack(context: Path) -> None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name in ("m1", "m2", *more):
                member = tarfile.TarInfo(name)
                member.size = 3000
                tar.addfile(member, io.BytesIO(name[1].encode() * 3000))
        (context / "t.tar.gz").write_bytes(gzip.compress(packed.getvalue(), level, mtime=0))

    return pack


def arg(**values: str) -> dict[str, Any]:
    return {"build_args": values}


SECRET = {"secrets": {"s": "one"}}
ROWS = {
    "F01": Row(FILES, change=lambda context: os.utime(context / "a.txt", (1, 1))),
    "F02": Row(FILES, "c2 r4 r6", "c3 c5", change=write("a.txt", "A.TXT"), why="file a.txt"),
    "F03": Row(FILES, "c2 r4 r6", "c3 c5", change=mode("a.txt", 0o755), why="file a.txt"),
    "F05": Row(FILES, change=write("unused.txt")),
    "F07": Row(FILES, "c3 r4 r6", "c5", change=write("dir/sub/f2"), why="file dir/sub/f2"),
    "F09": Row(FILES, change=lambda context: own_as_mapped_root(context / "a.txt", 1234)),
    "F10": Row(FILES, change=attribute),
    "F11": Row(FILES, change=linked),
    "F17": Row(FILES, "c9", edit=("/r6\n", "/r6\nCOPY unused.txt /c9\n"), why="nothing like it was built before"),
    "F19": Row(FILES, change=write("dir/x.log")),
    "F27": Row(FILES, change=mode("dir", 0o700)),
    "A01": Row(ARGS, "r3 r4", options=arg(V="2"), why="variable V"),
    "A03": Row(ARGS, "r4", options=arg(U="1"), why="variable U"),
    "A04": Row(ARGS, options=arg(X="1")),
    "A07": Row(ARGS, edit=("LABEL l=1", "LABEL l=2")),
    "A10": Row(ARGS, "r3 r4", edit=("ARG V=1", "ARG V=2"), why="variable V"),
    "A12": Row(ARGS, options=arg(HTTP_PROXY="http://p")),
    "A17": Row(ARGS, edit=("WORKDIR /w1", "WORKDIR /w1/")),
    "A20": Row(ARGS, "r3 r4", options={"platforms": ["linux/386"]}, why="the platform"),
    "A23": Row(ARGS, "w1 c2 r3 r4", options=arg(SOURCE_DATE_EPOCH="1"), why="SOURCE_DATE_EPOCH"),
    "S01": Row(STAGES, "c2 r3 c5 r7", "c6", change=write("src/a.txt"), why="file src/a.txt"),
    "S02": Row(STAGES, "c2 r3", change=write("src/b.txt"), why="file src/b.txt"),
    "S03": Row(STAGES, edit=("build", "bld")),
    "S05": Row(STAGES, "r4", edit=("RUN echo other > /r4", r'RUN printf "other\n" > /r4'), why="the command"),
    "S07": Row(STAGES, "r4", options={"no_cache_filter": ["other"]}, why="no cache was wanted"),
    "S08": Row(STAGES, "r1 c2 r3 r4 c5 c6 r7", options={"no_cache": True}, why="no cache was wanted"),
    "S17": Row(STAGES, "c2 r3", options={"no_cache_filter": ["build"]}, why="no cache was wanted"),
    "S20": Row(GRANDCHILDREN, "r1", options={"no_cache_filter": ["base"]}, why="no cache was wanted"),
    "S20 with another result": Row(
        RANDOM, "r1 c2 r3 r4 r8 c5 c6 r7", options={"no_cache_filter": ["base"]},
        why="step `[base 2/2] RUN head -c 9 /dev/urandom | md5sum > /r1`",
    ),
    "M01": Row(MOUNTS, edit=("id=a", "id=b"), always=SECRET),
    "M04": Row(MOUNTS, always=SECRET, options={"secrets": {"s": "two"}}),
    "M05": Row(
        MOUNTS, "r3 r4 r5 r6", edit=("id=s ", "id=s2,target=/run/secrets/s "),
        always={"secrets": {"s": "one", "s2": "one"}}, why="mount secret s2",
    ),
    "M09": Row(MOUNTS, change=write("c.txt"), always=SECRET),
    "M12": Row(MOUNTS, "r1", edit=("RUN mkdir", "RUN echo > /z; mkdir"), always=SECRET, why="the command"),
    "L01": Row(LINKS, "r1 r4", edit=("echo below", "echo other"), why="the command"),
    "L02": Row(LINKS, "c2 r4", change=write("a.txt"), why="file a.txt"),
    "H02": Row(WEB, moved=True),
    "T01": Row(ARCHIVE, change=archive(1)),
    "T01 with another member": Row(ARCHIVE, "a1 r2", change=archive(9, "m3"), why="file t.tar.gz"),
    "X01": Row(BASE, base="LABEL l=2"),
    "X02": Row(BASE, "r2", base="ENV NEW=1", why="variable NEW"),
    "X03": Row(BASE, base_options={"compression": "zstd", "force-compression": True}),
}  # fmt: skip


@pytest.fixture(scope="module")
def web() -> Iterator[WebServer]:
    with web_server() as running:
        yield running


def label(instruction: str) -> str:
    """Return what a step is called here."""
    return re.findall(r"/([a-z]\d)\b", instruction.replace("/r1/", "/"))[-1]


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_row(workshop: Workshop, web: WebServer, request: pytest.FixtureRequest, row: Row) -> None:
    name = re.sub("[^a-z0-9]+", "-", request.node.callspec.id.lower())
    base = f"server/rows-{name}"
    files: dict[str, str | bytes] = {path: f"{path}\n" for path in CONTEXT}
    workshop.write(files | {".dockerignore": "**/*.log\n"})
    (workshop.context / "a.txt").chmod(0o644)
    archive(9)(workshop.context)
    web.pages["/f.txt"] = Page(f"{name}\n".encode(), formatdate(1_700_000_000, usegmt=True))

    def prepare(instruction: str = "", **options: Any) -> None:
        outputs = [["image", {"name": base, **options}]]
        workshop.build(f"FROM busybox\nRUN echo {name} > /row\n{instruction}", outputs=outputs).ok()

    def ran(text: str, **options: Any) -> list[str]:
        text = re.sub(r"\bB\b", base, text, count=2).replace("http://W/", f"http://{web.address}/")
        built = workshop.build(text, **{**row.always, **options}).ok()
        assert len(built.reasons) == len(built.made), "each step that runs has a reason, and no other"
        reasons[:] = [reason for _, reason in built.reasons]
        return [label(step) for step in built.made]

    reasons: list[str] = []
    prepare()
    text = row.text
    assert ran(text), "the first build makes something"
    assert ran(text) == [], "the second nothing"
    if row.base or row.base_options:
        prepare(row.base, **row.base_options)
    row.change(workshop.context)
    if row.moved:
        web.pages["/f.txt"].modified = formatdate(1_700_001_000, usegmt=True)
    assert row.edit[0] in text
    found = ran(text.replace(*row.edit) if row.edit[0] else text, **row.options)
    assert set(row.ran.split()) <= set(found) <= {*row.ran.split(), *row.optional.split()}, found
    assert len(found) == len(set(found))
    if row.why:
        assert row.why.replace("BASE", f"docker.io/{base}:latest") in reasons, reasons
    else:
        assert reasons == [] or row.optional
