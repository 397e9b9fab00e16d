"""Steps where the host is odd: a masked /proc, programs of other architectures, changes of owners through odd paths."""

import base64
import os
import shutil
from pathlib import Path

import pytest

from img_core.testing.executor_lab import Laboratory
from img_core.testing.tiny_programs import exit_42_on_aarch64

pytestmark = pytest.mark.rootless

USERNS = "img_executor_userns._executor:UsernsExecutor"


def host_userland() -> list[dict[str, str]]:
    """Mounts that make the host's programs work in a container."""
    mounts = [{"target": "/usr", "source": "/usr"}]
    for name in ("lib", "lib64"):
        if Path("/", name).is_dir():
            mounts.append({"target": f"/{name}", "source": f"/{name}"})
    return mounts


def test_unchanged_half_of_an_owner_is_kept() -> None:
    if not Path("/usr/bin/chown").is_file():
        pytest.skip("needs chown of coreutils")
    lab = Laboratory(USERNS, "single")
    try:
        script = (
            "echo > /f; /usr/bin/chown 12:34 /f; /usr/bin/chgrp 78 /f; /usr/bin/chown 56 /f; /usr/bin/chown -h :9 /f"
        )
        outcome = lab.shell(script, mounts=host_userland())
        assert (outcome.code, outcome.errors) == (0, b"")
        assert lab.ask("stat", path="f")["recorded"] == "56:9"
    finally:
        lab.close()


def test_change_of_owner_takes_set_id_bits_away() -> None:
    lab = Laboratory(USERNS, "single")
    try:
        assert lab.shell("echo > /f; chmod 6755 /f; chown 12:34 /f; mkdir /d; chmod 2775 /d; chown 1:1 /d").code == 0
        assert lab.ask("stat", path="f")["mode"] == 0o755
        assert lab.ask("stat", path="d")["mode"] == 0o2775
    finally:
        lab.close()


def test_owner_through_odd_paths() -> None:
    lab = Laboratory(USERNS, "single")
    try:
        script = """
            mkdir -p /a/b/c /jail/etc; echo > /a/f; echo > /jail/etc/x; ln -s ../f /a/b/link; ln -s /etc /jail/abs
            cd /a/b/c; chown 1:2 ../../f; chown 3:4 ../link
            chroot /jail /x 2>/dev/null; mkdir /jail/bin; cp /bin/busybox /jail/bin
            chroot /jail /bin/busybox chown 5:6 /abs/x
            exec 5> /a/g; chown 7:8 /proc/self/fd/5; chown 7:8 /dev/stdout
        """
        outcome = lab.shell(script)
        assert outcome.code == 0, outcome.errors
        assert lab.ask("stat", path="a/f")["recorded"] == "3:4"
        assert lab.ask("stat", path="jail/etc/x")["recorded"] == "5:6"
    finally:
        lab.close()


def test_masked_proc_still_runs_steps_and_records_owners(tmp_path: Path) -> None:
    # Nested: the mounts of the outer namespace are locked in the inner one, as in an unprivileged container.
    mask = 'mount -t tmpfs none /proc/acpi 2>/dev/null || mount --bind /dev/null /proc/cpuinfo; exec "$@"'
    lab = Laboratory(USERNS, "single", prefix=["unshare", "-Urm", "sh", "-c", mask, "sh"])
    try:
        outcome = lab.shell("echo > /f; chown 12:34 /f && readlink /proc/self && kill -0 1 && ls /proc/1/root")
        assert b"12" not in outcome.errors
        assert lab.ask("stat", path="f")["recorded"] == "12:34"
    finally:
        lab.close()


@pytest.mark.skipif(os.uname().machine == "aarch64", reason="native here")
@pytest.mark.parametrize(
    ("executor", "mapping"),
    [(USERNS, "full"), (USERNS, "single"), ("img_executor_runc._executor:RuncExecutor", "full")],
)
def test_programs_of_other_architectures_run(executor: str, mapping: str) -> None:
    if "runc" in executor and not any(os.access(f"/usr/{where}/runc", os.X_OK) for where in ("bin", "sbin")):
        pytest.skip("needs runc")
    if shutil.which("qemu-aarch64-static") is None:
        pytest.skip("needs a static qemu")
    if os.getuid() == 0 and mapping == "full":
        pytest.skip("root would change the host")
    lab = Laboratory(executor, mapping)
    try:
        lab.ask("write", path="foreign", text="", mode=0o755)
        foreign = base64.b64encode(exit_42_on_aarch64()).decode()
        assert lab.shell(f"echo {foreign} | base64 -d > /foreign").code == 0
        before = sorted(os.listdir("/proc/sys/fs/binfmt_misc"))
        assert lab.run("/foreign").code == 42
        # What the step executes in turn runs too; and native programs still do.
        assert lab.shell("/foreign; echo $?").text == "42"
        assert sorted(os.listdir("/proc/sys/fs/binfmt_misc")) == before
    finally:
        lab.close()


def test_missing_qemu_is_named(tmp_path: Path) -> None:
    if os.getuid() == 0 or os.uname().machine == "aarch64":
        pytest.skip("root gets another hint")
    lab = Laboratory(USERNS, "single", environment={"PATH": str(tmp_path)})
    try:
        foreign = base64.b64encode(exit_42_on_aarch64()).decode()
        assert lab.shell(f"echo {foreign} | base64 -d > /foreign; chmod +x /foreign").code == 0
        outcome = lab.run("/foreign")
        if outcome.code == 42:
            pytest.skip("the host runs it")
        assert "`arm64`" in outcome.error
    finally:
        lab.close()


def test_sockets_can_be_bound(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "agent"))
        lab = Laboratory(USERNS, "full")
        try:
            mounts = [{"target": "/run/agent.0", "source": str(tmp_path / "agent")}]
            assert lab.shell("test -S /run/agent.0 && echo socket", mounts=mounts).text == "socket"
            assert lab.ask("list") == []
        finally:
            lab.close()


def test_userns_environment_has_nothing_but_what_was_given() -> None:
    lab = Laboratory(USERNS, "full", environment={"SECRET": "builder"})
    try:
        assert lab.run("cat", "/proc/self/environ", env=[["PATH", "/bin"]]).output == b"PATH=/bin\0"
    finally:
        lab.close()
