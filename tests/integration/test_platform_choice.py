"""``--platform`` for images that exist, on every command that takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.fixtures import NewState
from harness.img import Img
from img_core.images.platforms import host_platform
from img_core.spec.values import Platform
from img_core.testing.faulty_registry import FaultyRegistry
from img_core.testing.images import make_image

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.rootless

HOST = host_platform()


@pytest.mark.parametrize(
    "command", [["inspect"], ["history"], ["unpack", "-o", "root"], ["push"]], ids=lambda command: command[0]
)
def test_a_platform_that_a_single_image_does_not_have_is_an_error_that_names_what_there_is(
    command: list[str], img: Img, tmp_path: Path
) -> None:
    there = f"{HOST.os}/{HOST.architecture}"
    other = "linux/s390x" if HOST.architecture != "s390x" else "linux/amd64"
    img.run("tag", "busybox", "127.0.0.1:1/busybox").ok()
    done = img.run(*command, "--platform", other, "127.0.0.1:1/busybox", cwd=tmp_path)
    done.refused(1, f"no content for platform {other}")
    assert f"hint: kept platforms: {there}" in done.stderr
    assert not (tmp_path / "root").exists()
    if command[0] != "push":
        img.run(*command, "--platform", there, "127.0.0.1:1/busybox", cwd=tmp_path).ok()


def test_a_pull_of_a_single_image_for_another_platform_warns_as_docker_does(
    new_state: NewState, faulty_registry: FaultyRegistry
) -> None:
    img = new_state(seeded=False)
    faulty_registry.add("app", "1", make_image(platform=Platform("linux", "s390x")))
    name = f"{faulty_registry.address}/app:1"
    done = img.run("pull", "--platform", "linux/riscv64", name).ok()
    assert "does not match the specified platform: wanted linux/riscv64, it is for linux/s390x" in done.stderr
    assert "warning" not in img.run("pull", "--platform", "linux/s390x", name).ok().stderr
    assert "warning" not in img.run("pull", name).ok().stderr
