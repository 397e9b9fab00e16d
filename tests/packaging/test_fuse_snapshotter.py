"""The distribution with the FUSE snapshotter: found when it is installed, with a reason where it cannot work."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging_support import ROOT, Environment, build_wheel, check_content


@pytest.fixture(scope="module")
def fuse_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(ROOT / "plugins" / "img-snapshotter-fuse", tmp_path_factory.mktemp("fuse"))


def test_the_wheel_has_the_package_and_asks_for_pyfuse3(fuse_wheel: Path) -> None:
    check_content(fuse_wheel, "img_snapshotter_fuse", "pyfuse3")


@pytest.mark.rootless
def test_doctor_tells_whether_it_works_or_why_not(installed: Environment, fuse_wheel: Path) -> None:
    installed.install(fuse_wheel)
    assert installed.statuses()["snapshotter:fuse-overlayfs"] == "ok"
    lines = installed.img("doctor", "--format", "{{.what}}: {{.text}}").stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("snapshotter fuse-overlayfs: ")]
    reasons = ("works", "/dev/fuse", "pyfuse3")
    assert any(reason in line for reason in reasons), line


@pytest.mark.rootless
def test_a_program_that_is_missing_is_named(
    installed: Environment, fuse_wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.install(fuse_wheel)
    monkeypatch.setattr(Environment, "variables", {"IMG_FUSE_OVERLAYFS": "no-such-program"})
    context = installed.home / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    done = installed.img("build", "-b", "fuse-overlayfs", "-t", "x", "context")
    assert done.returncode == 7
    assert "`no-such-program` is not on PATH" in done.stderr
