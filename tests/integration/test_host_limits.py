"""Small limits of the process, long paths and closed descriptors: one line each, or the death by the right signal."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.host import AS_ROOT
from harness.img import Img, write_context

pytestmark = pytest.mark.rootless

LONG = "/" + "/".join(["d" * 200] * 30)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_context(tmp_path / "context", "FROM busybox\nCOPY file /\nRUN true\n", {"file": "x" * 300_000})


def limited(img: Img, before: Callable[[], None], *arguments: str | Path) -> tuple[int, str]:
    """Return status and standard error of a command that started with *before*."""
    done = subprocess.run(
        img.command(*arguments), env=img.environment(), preexec_fn=before, capture_output=True, text=True, check=False, timeout=120
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("NOFILE", [8, 14, *range(20, 29, 2)]),
        ("FSIZE", [4096, 200_000]),
        ("AS", [60 << 20, 200 << 20]),
    ],
)
def test_a_small_limit_is_one_line(img: Img, context: Path, name: str, values: list[int]) -> None:
    refused = 0
    for value in values:

        def before(value: int = value) -> None:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))

        status, said = limited(img, before, "build", "--no-cache", "-t", "x", context)
        assert "internal error" not in said, f"{name} {value}: {said}"
        if "img_core" not in said.partition("Traceback")[0] and status not in (0, -6, -7, -11):
            assert said.count("Error: ") <= 1, f"{name} {value}: {said}"
        refused += status != 0
    assert refused
    img.build(context, "--no-cache").ok()


def _is_ours(process: Path) -> bool:
    try:
        return process.stat().st_uid == os.getuid()
    except FileNotFoundError:  # it has ended
        return False


@pytest.mark.skipif(AS_ROOT, reason="root may have any number of processes")
def test_too_few_processes_are_one_line(img: Img, context: Path) -> None:
    """The limit counts what the user runs elsewhere, too: one that none can start under, and some that end half way."""
    mine = sum(_is_ours(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    for value in (1, *range(mine, mine + 8, 2)):

        def before(value: int = value) -> None:
            resource.setrlimit(resource.RLIMIT_NPROC, (value, value))

        status, said = limited(img, before, "build", "--no-cache", "-t", "x", context)
        assert "internal error" not in said, f"{value}: {said}"
        assert "Traceback" not in said, f"{value}: {said}"
        assert said.count("Error: ") == (status != 0), f"{value}: {said}"
        if value == 1:
            assert (status, "`ulimit -u`" in said) == (7, True), said
    img.build(context, "--no-cache").ok()


@pytest.mark.parametrize("instruction", [f"WORKDIR {LONG}", f"COPY file {LONG}/f", f"WORKDIR /{'n' * 300}"])
def test_a_path_beyond_what_the_kernel_takes_is_one_line(img: Img, context: Path, instruction: str) -> None:
    write_context(context, f"FROM busybox\n{instruction}\nRUN true\n")
    done = img.build(context)
    done.refused(1, "ame too long")
    assert len(done.error) <= 1000


@pytest.mark.parametrize("descriptors", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_closed_standard_descriptors_destroy_nothing(img: Img, context: Path, descriptors: tuple[int, ...]) -> None:
    closed = "".join(f" {number}>&-" for number in descriptors)
    command = ["sh", "-c", f'"$@" {closed}', "sh", *img.command("build", "-t", "x", str(context))]
    done = subprocess.run(command, env=img.environment(), capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    assert "docker.io/library/x:latest" in img.names()


def test_an_interrupt_during_the_start_is_the_death_by_that_signal(img: Img, tmp_path: Path) -> None:
    """A module that our start imports waits for it."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/click.py").write_text("import os, time\nprint(flush=True)\ntime.sleep(60)\n")
    path = f"{tmp_path}/site:{img.environment()['PYTHONPATH']}"
    for signum in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            img.command("build", "--help"), env={**img.environment(), "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as command:  # fmt: skip
            assert command.stdout is not None
            assert command.stderr is not None
            command.stdout.readline()
            command.send_signal(signum)
            assert command.wait(20) in (-signum, 128 + signum)
            assert b"Traceback" not in command.stderr.read()
