"""What is mounted into a step's root, where, and what is left of it."""

# ruff: noqa: S108 - a test's name is its claim; the paths are those of a container
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from img_core.testing.contracts.driver import DriverContract
from img_core.testing.executor_lab import Laboratory

__all__ = ["MountPromises"]


class MountPromises(DriverContract):
    """Promises about mounts."""

    def test_bind_mounts(self, lab: Laboratory, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("content")
        mounts = [
            {"target": "/ro", "source": str(tmp_path)},
            {"target": "/rw", "source": str(tmp_path), "readonly": False},
            {"target": "/etc/single", "source": str(tmp_path / "file")},
        ]
        script = "cat /ro/file /etc/single; echo no > /ro/file; echo no > /etc/single; echo new > /rw/new"
        outcome = lab.shell(script, mounts=mounts)
        assert outcome.output == b"contentcontent"
        assert outcome.errors.count(b"ead-only") == 2
        assert (tmp_path / "new").read_text() == "new\n"
        assert (tmp_path / "file").read_text() == "content"

    def test_tmpfs_has_the_given_size_and_mode(self, lab: Laboratory) -> None:
        mounts = [{"target": "/scratch", "kind": "tmpfs", "size": 1 << 20, "readonly": False, "mode": 0o1770}]
        script = "stat -c %a /scratch; df -k /scratch | tail -n 1; head -c 2000000 /dev/zero > /scratch/big"
        outcome = lab.shell(script, mounts=mounts)
        assert outcome.text.split()[0] == "1770"
        assert outcome.text.split()[-6:-4] == ["tmpfs", "1024"]
        assert outcome.code != 0

    @pytest.mark.parametrize("target", ["/dev/shm", "/dev/mqueue", "/dev/pts", "/sys", "/dev/shm/"])
    def test_a_mount_at_a_place_of_the_executors_replaces_it(self, lab: Laboratory, target: str) -> None:
        mounts = [{"target": target, "kind": "tmpfs", "size": 1 << 20, "mode": 0o750, "readonly": False}]
        script = f"stat -c %a {target}; ls {target} | wc -l; grep -c ' {target.rstrip('/')} ' /proc/mounts"
        outcome = lab.shell(script, mounts=mounts)
        assert outcome.text.split() == ["750", "0", "1"], outcome.errors

    @pytest.mark.parametrize("target", ["/proc", "/proc/sys", "/dev"])
    def test_what_must_come_from_the_kernel_cannot_be_replaced(self, lab: Laboratory, target: str) -> None:
        outcome = lab.run("true", mounts=[{"target": target, "kind": "tmpfs"}])
        assert outcome.error.startswith("StepError")
        assert target in outcome.error

    def test_mounts_inside_mounts(self, lab: Laboratory, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("s3cret")
        mounts: list[dict[str, Any]] = [
            {"target": "/run/secrets/inner", "source": str(tmp_path / "secret")},
            {"target": "/run", "kind": "tmpfs", "readonly": False},
        ]
        assert lab.run("cat", "/run/secrets/inner", mounts=mounts).output == b"s3cret"
        assert lab.ask("list") == []

    def test_nothing_is_left_in_the_root(self, lab: Laboratory, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        lab.ask("write", path="etc/passwd", text="")
        before = lab.ask("list"), lab.ask("stat", path="etc")["mtime"], lab.ask("stat", path=".")["mtime"]
        mounts = [
            {"target": "/etc/resolv.conf", "source": str(tmp_path / "file")},
            {"target": "/a/b/c", "source": str(tmp_path)},
        ]
        assert lab.run("true", mounts=mounts).code == 0
        assert (lab.ask("list"), lab.ask("stat", path="etc")["mtime"], lab.ask("stat", path=".")["mtime"]) == before

    def test_what_the_step_puts_beside_a_mount_point_stays(self, lab: Laboratory, tmp_path: Path) -> None:
        mounts = [{"target": "/made/target", "source": str(tmp_path)}]
        assert lab.shell("echo kept > /made/file", mounts=mounts).code == 0
        assert lab.ask("list") == ["made", "made/file"]

    def test_symlinked_targets_resolve_inside(self, lab: Laboratory, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (tmp_path / "file").write_text("bound")
        lab.ask("symlink", path="data", target=str(outside))
        lab.ask("symlink", path="up", target="../../../../../../inside")
        for target in ("/data/file", "/up/file"):
            mounts = [{"target": target, "source": str(tmp_path / "file")}]
            outcome = lab.shell(f"cat {target}", mounts=mounts)
            assert outcome.output == b"bound"
        assert list(outside.iterdir()) == []

    def test_dangling_symlink_as_target_of_a_file(self, lab: Laboratory, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("nameserver 1.2.3.4")
        lab.ask("write", path="etc/keep", text="")
        lab.ask("symlink", path="etc/resolv.conf", target="../run/resolver/stub.conf")
        mounts = [{"target": "/etc/resolv.conf", "source": str(tmp_path / "file")}]
        assert lab.run("cat", "/etc/resolv.conf", mounts=mounts).output == b"nameserver 1.2.3.4"
        assert lab.ask("list") == ["etc", "etc/keep", "etc/resolv.conf"]

    @pytest.mark.parametrize("name", ["proc", "sys", "dev"])
    def test_symlinked_system_directory_is_refused_or_resolved_inside(
        self, lab: Laboratory, tmp_path: Path, name: str
    ) -> None:
        (tmp_path / "witness").write_text("host")
        lab.ask("symlink", path=name, target=str(tmp_path))
        outcome = lab.run("true")
        assert outcome.code == 0 or f"`/{name}`" in outcome.error
        assert [path.name for path in tmp_path.iterdir()] == ["witness"]

    def test_file_over_directory_is_refused(self, lab: Laboratory, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        outcome = lab.run("true", mounts=[{"target": "/bin", "source": str(tmp_path / "file")}])
        assert "/bin" in outcome.error
