"""Whole builds by ``executor``, against a real registry."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from img_core.testing.executor_lab import BUSYBOX
from img_core.testing.registry import DockerRegistry

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = [
    pytest.mark.rootless,
    pytest.mark.registry,
    pytest.mark.skipif(not os.access(BUSYBOX, os.X_OK), reason="needs a static busybox"),
]

DOCKERFILE = 'FROM scratch\nARG V=1\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "touch", "/made"]\nLABEL v=$V\n'


@dataclass
class Executor:
    """The command in a home of its own, with a context."""

    home: Path
    context: Path

    def run(
        self, *arguments: str, cwd: Path | None = None, given: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("IMG_", "XDG_", "DOCKER_"))}
        return subprocess.run(
            [sys.executable, "-c", "from img_kaniko.main import main; main()", *arguments],
            cwd=cwd or self.context,
            env={**kept, "HOME": str(self.home)},
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            timeout=240,
            check=False,
        )

    def ok(self, *arguments: str, given: bytes | None = None) -> str:
        done = self.run(*arguments, given=given)
        assert done.returncode == 0, done.stderr.decode()
        return done.stderr.decode()


@pytest.fixture
def executor(tmp_path: Path) -> Executor:
    context = tmp_path / "workspace"
    context.mkdir()
    (context / "busybox").write_bytes(Path(BUSYBOX).read_bytes())
    (context / "busybox").chmod(0o755)
    (context / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "home").mkdir()
    return Executor(tmp_path / "home", context)


def test_it_builds_and_pushes_and_writes_the_files(executor: Executor, registry: DockerRegistry) -> None:
    first, second = f"{registry.address}/team/app:1", f"{registry.address}/team/app:2"
    log = executor.ok(
        "--context", "dir://.", f"--destination={first}", "-d", second, "--build-arg", "V=7", "--cleanup",
        "--digest-file", "digest", "--image-name-with-digest-file=names", "--image-name-tag-with-digest-file", "tags",
    )  # fmt: skip
    digest = (executor.context / "digest").read_text()
    assert digest.startswith("sha256:")
    assert (executor.context / "names").read_text() == f"{registry.address}/team/app@{digest}\n" * 2
    assert (executor.context / "tags").read_text() == f"{first}@{digest}\n{second}@{digest}\n"
    assert "note: `--cleanup` has no meaning here" in log
    listed = httpx.get(f"http://{registry.address}/v2/team/app/tags/list").json()
    assert sorted(listed["tags"]) == ["1", "2"]


def archive(context: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("Dockerfile", "busybox"):
            tar.add(context / name, arcname=f"sub/{name}")
    return gzip.compress(buffer.getvalue())


@pytest.mark.parametrize("source", ["stdin", "file"])
def test_a_context_in_an_archive(executor: Executor, source: str) -> None:
    content = archive(executor.context)
    (executor.context / "context.tar.gz").write_bytes(content)
    place = "tar://stdin" if source == "stdin" else f"tar://{executor.context}/context.tar.gz"
    executor.ok(
        "--context", place, "--context-sub-path", "sub", "--dockerfile", "sub/Dockerfile", "--no-push",
        "--tar-path", "image.tar", "-d", "registry.example/app:1", given=content if source == "stdin" else None,
    )  # fmt: skip
    with tarfile.open(executor.context / "image.tar") as tar:
        manifest = json.load(tar.extractfile("manifest.json") or io.BytesIO())
    assert manifest[0]["RepoTags"] == ["registry.example/app:1"]


def test_reproducible_means_the_same_digest_twice(executor: Executor, tmp_path: Path) -> None:
    digests = []
    for number in ("1", "2"):
        executor.home = tmp_path / f"home{number}"
        executor.home.mkdir()
        executor.ok("--context", ".", "--no-push", "--reproducible", "--digest-file", "digest")
        os.utime(executor.context / "busybox", (1, 1))
        digests.append((executor.context / "digest").read_text())
    assert digests[0] == digests[1] != ""


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        pytest.param(["--context", "."], 2, "you must provide --destination", id="no-destination"),
        pytest.param(["--context", ".", "--no-push", "--dockerfile", "nope"], 3, "nope", id="no-dockerfile"),
        pytest.param(["--context", "tar://nope.tar", "--no-push"], 2, "`nope.tar` cannot be read", id="no-archive"),
        pytest.param(
            ["--context", ".", "--no-push", "--digest-file", "no/such"], 1, "`no/such` cannot be written", id="no-place"
        ),
    ],
)
def test_what_fails_says_so_in_one_line(executor: Executor, arguments: list[str], status: int, words: str) -> None:
    done = executor.run(*arguments)
    errors = [line for line in done.stderr.decode().splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert words in errors[0]
    assert done.returncode == status
    assert b"Traceback" not in done.stderr


def test_the_status_of_a_failed_step_is_that_of_img(executor: Executor) -> None:
    (executor.context / "Dockerfile").write_text(DOCKERFILE + 'RUN ["/bin/busybox", "false"]\n')
    assert executor.run("--context", ".", "--no-push").returncode == 4


def test_help_and_version(executor: Executor) -> None:
    assert b"--image-name-with-digest-file" in executor.run("--help").stdout
    assert executor.run("version").stdout.startswith(b"img-kaniko ")
