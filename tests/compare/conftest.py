"""Fixtures of the comparison."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from compare.builders import Builders
from harness.bases import BUSYBOX, BUSYBOX_CONFIG, busybox_root, write_oci_archive
from harness.build_server import BuildServer
from harness.containers import Containers
from harness.fixtures import containers, new_state, seed, server
from harness.web import web_server

__all__ = ["busybox_archive", "containers", "new_state", "seed", "server"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say how many random builds are tried, and from which seed on."""
    parser.addoption("--random", type=int, default=40, help="how many random builds to compare (default: 40)")
    parser.addoption(
        "--every", type=int, default=20, help="one of how many to build in unmodified containers (default: 20)"
    )
    parser.addoption("--random-from", type=int, default=0, help="the seed of the first of them (default: 0)")


@pytest.fixture(scope="module")
def builders(
    server: BuildServer, containers: Containers, busybox_archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Builders]:
    """Give both builders, with ``busybox``."""
    containers.take(busybox_archive, "docker.io/library/busybox:latest")
    with web_server() as web:
        yield Builders(server, containers, web, tmp_path_factory.mktemp("builders"))


@pytest.fixture(scope="session")
def busybox_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give ``busybox`` with what the builders would make on the way: parents without an entry, and files to mount over."""
    if not BUSYBOX.exists():
        pytest.skip("this host lacks `/bin/busybox` (package busybox-static)")
    archive = tmp_path_factory.mktemp("busybox") / "busybox.tar"
    name = "docker.io/library/busybox:latest"
    return write_oci_archive(archive, [busybox_root(), _made_on_the_way()], name=name, config=BUSYBOX_CONFIG)


def _made_on_the_way() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in ("srv", "usr", "var", "dev", "proc", "sys", "run", "etc"):
            archive.addfile(_member(path, tarfile.DIRTYPE, 0o755))
        for path in ("etc/hosts", "etc/hostname", "etc/resolv.conf"):
            archive.addfile(_member(path, tarfile.REGTYPE, 0o644))
    return buffer.getvalue()


def _member(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type, member.mode, member.mtime = kind, mode, 1_000_000_000
    return member
