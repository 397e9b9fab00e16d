"""A rebuild does only what changed; one with nothing changed reads no layer and no snapshot."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.host import AS_ROOT, need
from harness.img import Img, write_context
from harness.steps import made, statuses

pytestmark = pytest.mark.rootless

DOCKERFILE = """\
FROM busybox AS one
RUN echo one > /one
COPY a /a
FROM busybox AS two
WORKDIR /w
COPY --from=one /one /a /w/
COPY d/ /w/d/
RUN cat /w/one > /w/two
ENV DONE=yes
"""
STEPS = 6  # what is more than configuration


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    return write_context(directory, DOCKERFILE, {"a": "a", "d/x": "x", "d/y": "y"})


def test_everything_is_cached_and_the_digest_stays(img: Img, context: Path) -> None:
    first = img.build(context).ok()
    assert len(made(first.stderr)) == STEPS, first.stderr
    digest = img.digest("built")
    second = img.build(context).ok()
    assert made(second.stderr) == []
    assert list(statuses(second.stderr).values()).count("CACHED") == STEPS
    assert img.digest("built") == digest


def test_a_cached_build_imports_nothing_that_only_work_needs(img: Img, context: Path) -> None:
    img.build(context).ok()
    img.build(context).ok()  # by now the index of plugins is there
    second = img.with_environment(PYTHONPROFILEIMPORTTIME="1").build(context).ok()
    imported = set(re.findall(r"^import time:.*\| +(\S+)$", second.stderr, re.MULTILINE))
    assert "img_core.solver.solver" in imported, "imports were seen"
    heavy = {
        "httpcore",
        "httpx",
        "jsonschema",
        "rich",
        "asyncio",
        "concurrent.futures",
        "img_core.archives.tar.reader",
        "img_core.solver.run",
        "img_core.store.collect",
    }
    assert imported & heavy == set()


@contextmanager
def locked_away(*directories: Path) -> Iterator[None]:
    """Take all permissions from *directories*; root in a namespace still gets in, so strace looks as well."""
    modes = {directory: stat.S_IMODE(directory.stat().st_mode) for directory in directories}
    for directory in directories:
        directory.chmod(0)
    try:
        yield
    finally:
        for directory, mode in modes.items():
            directory.chmod(mode)


@pytest.mark.parametrize("backend", ["overlayfs", "native"])
def test_cached_build_opens_no_layer_and_no_snapshot(img: Img, context: Path, tmp_path: Path, backend: str) -> None:
    need("strace")
    # One id, because newuidmap(1) has no set-user-id bit for who is traced.
    img = img.with_flags("-b", backend).with_environment(**({} if AS_ROOT else {"IMG_IDMAP": "single"}))
    img.build(context).ok()
    blobs = img.state / "blobs" / "sha256"
    layers = {path.name for path in blobs.iterdir() if path.read_bytes()[:1] != b"{"}
    assert len(layers) > 3
    trace = tmp_path / "trace"
    watched = "trace=open,openat,openat2,open_tree,mount,mkdir,mkdirat"
    command = ["strace", "-f", "-qq", "-e", watched, "-o", str(trace)]
    traced = [*command, *img.command("build", "-t", "built", context)]
    done = subprocess.run(traced, check=True, capture_output=True, text=True, env=img.environment())
    assert made(done.stderr) == [], "everything is cached"
    touched = trace.read_text(errors="replace")
    assert "img.db" in touched, "strace saw the builder"
    assert [name for name in layers if name in touched] == []
    assert [line for line in touched.splitlines() if f"{img.state}/snapshots/" in line] == []


@pytest.mark.parametrize("backend", ["overlayfs", "native"])
def test_cached_build_works_without_the_content_of_its_layers(img: Img, context: Path, backend: str) -> None:
    """Layers with other bytes in them are no obstacle for who does not look."""
    img = img.with_flags("-b", backend)
    img.build(context).ok()
    digest = img.digest("built")
    for path in (img.state / "blobs" / "sha256").iterdir():
        if path.read_bytes()[:1] != b"{":
            size = path.stat().st_size
            path.chmod(0o600)
            path.write_bytes(bytes(size))
    with locked_away(img.state / "snapshots"):
        assert made(img.build(context).ok().stderr) == []
    assert img.digest("built") == digest


@pytest.mark.parametrize(
    ("change", "remade"),
    [
        (("a", "other"), ["COPY a", "COPY --from", "COPY d/", "RUN cat"]),
        (("d/x", "other"), ["COPY d/", "RUN cat"]),
        (("unrelated", "x"), []),
    ],
)
def test_changed_file_remakes_only_what_depends_on_it(
    img: Img, context: Path, change: tuple[str, str], remade: list[str]
) -> None:
    img.build(context).ok()
    (context / change[0]).write_text(change[1])
    log = img.build(context).ok().stderr
    assert [word for word in remade if not any(word in name for name in made(log))] == []
    assert len(made(log)) == len(remade), log


def test_touched_file_and_other_context_directory_are_cache_hits(img: Img, context: Path, tmp_path: Path) -> None:
    img.build(context).ok()
    os.utime(context / "a", (1, 1))
    moved = context.rename(tmp_path / "elsewhere")
    assert made(img.build(moved).ok().stderr) == []


def test_changed_mode_of_a_file_is_a_miss(img: Img, context: Path) -> None:
    img.build(context).ok()
    (context / "a").chmod(0o755)
    assert any("COPY a" in name for name in made(img.build(context).ok().stderr))


def test_equal_output_of_a_changed_stage_does_not_remake_what_copies_from_it(img: Img, context: Path) -> None:
    img.build(context).ok()
    (context / "Dockerfile").write_text(DOCKERFILE.replace("RUN echo one > /one", "RUN echo 'one' > /one"))
    log = img.build(context).ok().stderr
    assert [name for name in made(log) if name.startswith("[two")] == []
    assert len(made(log)) == 2, log


def test_no_cache_makes_everything_again(img: Img, context: Path) -> None:
    img.build(context).ok()
    assert len(made(img.build(context, "--no-cache").ok().stderr)) == STEPS


def test_unneeded_stage_is_not_built(img: Img, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox AS broken\nRUN false\nFROM busybox\nRUN true\n")
    img.build(context).ok()


def test_failed_step_is_not_cached_but_those_before_are(img: Img, context: Path) -> None:
    write_context(context, "FROM busybox\nRUN true\nCOPY go /go\nRUN cat /go | grep yes\n", {"go": "no"})
    img.build(context).refused(4)
    (context / "go").write_text("yes\n")
    assert len(made(img.build(context).ok().stderr)) == 2
