"""What a step may do, and what of the host it cannot see."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from img_core.testing.contracts.driver import DriverContract
from img_core.testing.executor_lab import Laboratory

__all__ = ["IsolationPromises"]

_FOURTEEN_CAPABILITIES = "00000000a80425fb"
_A_DEVICE = "/dev/full"


class IsolationPromises(DriverContract):
    """Promises about privileges and about what stays out of sight."""

    # --- ids and privileges

    def test_root_by_default(self, lab: Laboratory) -> None:
        assert lab.shell("id -u; id -g").text.split() == ["0", "0"]

    def test_user_and_groups(self, lab: Laboratory) -> None:
        outcome = lab.shell("id -u; id -g; id -G; echo mine > /dev/stdout", uid=1000, gid=1001, groups=[7, 8])
        lines = outcome.output.decode().splitlines()
        assert lines == ["1000", "1001", "1001 7 8", "mine"]

    def test_supplementary_groups_of_the_builder_are_dropped(self, lab: Laboratory) -> None:
        assert lab.run("id", "-G").text == "0"

    def test_capabilities_are_bounded(self, lab: Laboratory) -> None:
        text = lab.run("grep", "^Cap", "/proc/self/status").text
        found = dict(line.split(":\t") for line in text.splitlines())
        assert found["CapBnd"] == found["CapEff"] == found["CapPrm"] == _FOURTEEN_CAPABILITIES
        assert found["CapInh"] == found["CapAmb"] == "0000000000000000"

    def test_ordinary_users_have_no_capabilities(self, lab: Laboratory) -> None:
        text = lab.run("grep", "^Cap[EP]", "/proc/self/status", uid=1000, gid=1000).text
        expected = _FOURTEEN_CAPABILITIES if lab.mapping == "single" else "0000000000000000"
        assert {line.split()[1] for line in text.splitlines()} == {expected}

    def test_devices_of_the_host_stay_as_they_are(self, lab: Laboratory) -> None:
        """Root of the host, or of a container, could change the nodes themselves."""
        before = os.stat(_A_DEVICE)
        try:
            lab.shell(f"chmod 640 {_A_DEVICE}; chown 12:34 {_A_DEVICE}; true")
            after = os.stat(_A_DEVICE)
            assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
        finally:
            if os.stat(_A_DEVICE).st_mode != before.st_mode:
                os.chown(_A_DEVICE, before.st_uid, before.st_gid)
                os.chmod(_A_DEVICE, before.st_mode & 0o7777)
        used = lab.shell("echo word > /dev/null && ! echo word 2>/dev/null > /dev/full && head -c 4 /dev/zero | wc -c")
        assert used.text.split() == ["4"]

    def test_set_user_id_programs_keep_working(self, lab: Laboratory) -> None:
        assert lab.run("grep", "NoNewPrivs", "/proc/self/status").text.split()[1] == "0"

    def test_system_calls_are_filtered(self, lab: Laboratory) -> None:
        assert lab.run("grep", "^Seccomp:", "/proc/self/status").text.split()[1] == "2"
        assert lab.shell("unshare -m true").code != 0
        assert lab.shell("mount -t tmpfs none /bin").code != 0

    def test_insecure_lifts_the_sandbox(self, lab: Laboratory) -> None:
        script = (
            "mkdir /m && mount -t tmpfs none /m && mount --bind /bin /m && ls /m/sh && grep Seccomp: /proc/self/status"
        )
        outcome = lab.shell(script, security="insecure")
        assert outcome.code == 0, outcome.errors
        # With a single id there is still the filter for owners.
        assert outcome.text.split()[-1] == ("2" if lab.mapping == "single" else "0")

    @pytest.mark.parametrize(
        "request_", [{"network": "bridge"}, {"security": "none"}, {"ulimits": [["speed", 1, 1]]}, {"cwd": "/a\0b"}]
    )
    def test_unknown_wishes_are_refused(self, lab: Laboratory, request_: dict[str, Any]) -> None:
        outcome = lab.run("true", **request_)
        assert outcome.error.startswith("StepError")

    def test_limit_beyond_the_hosts_is_an_error(self, lab: Laboratory) -> None:
        outcome = lab.run("true", ulimits=[["nofile", 1 << 40, 1 << 40]])
        assert outcome.error or outcome.code != 0

    # --- isolation

    def test_only_processes_of_the_step_are_visible(self, lab: Laboratory) -> None:
        pids = lab.shell("echo /proc/[0-9]*").text.split()
        assert "/proc/1" in pids
        assert len(pids) <= 2

    def test_proc_and_sys_hide_what_belongs_to_the_host(self, lab: Laboratory) -> None:
        script = (
            "cat /proc/keys /proc/timer_list; ls /sys/firmware; echo x > /proc/sys/kernel/core_pattern && echo written"
        )
        assert lab.shell(script).output == b""

    def test_sys_is_read_only_with_everything_below(self, lab: Laboratory) -> None:
        script = "grep ' /sys' /proc/mounts | grep -vE '^[^ ]+ [^ ]+ [^ ]+ ro'"
        assert lab.shell(script).output == b""

    def test_host_files_are_out_of_sight(self, lab: Laboratory) -> None:
        marker = Path(lab.identity["scratch"])
        assert lab.run("ls", "/").text.split() == ["bin", "dev", "proc", "sys"]
        assert lab.shell(f"ls {marker}").code != 0
        assert lab.shell("ls /proc/1/root/").text.split() == ["bin", "dev", "proc", "sys"]

    @pytest.mark.parametrize("number", range(3, 12))
    def test_working_directory_cannot_reach_a_leaked_descriptor(self, lab: Laboratory, number: int) -> None:
        outcome = lab.shell("pwd; ls ../../../../etc/passwd", cwd=f"/proc/self/fd/{number}")
        assert b"passwd" not in outcome.output
        assert outcome.code != 0 or outcome.error

    @pytest.mark.parametrize("target", ["/proc/self/exe", "/proc/1/exe"])
    def test_program_cannot_be_the_builder_itself(self, lab: Laboratory, target: str) -> None:
        lab.ask("write", path="script", text=f"#!{target}\nimport os; print('escaped')\n", mode=0o755)
        lab.ask("symlink", path="link", target=target)
        for program in ("/script", "/link", target):
            outcome = lab.run(program, "-c", "print('escaped')")
            assert b"escaped" not in outcome.output
            assert outcome.code != 0 or outcome.error

    def test_private_network_has_only_loopback(self, lab: Laboratory) -> None:
        devices = lab.run("cat", "/proc/net/dev", network="none").text.splitlines()[2:]
        assert [line.split(":")[0].strip() for line in devices] == ["lo"]
        assert "UP" in lab.run("ip", "link", "show", "lo", network="none").text
        assert lab.shell("ping -c 1 -W 1 127.0.0.1 >/dev/null || ip addr show lo", network="none").code == 0

    def test_given_network_namespace_is_joined(self, lab: Laboratory) -> None:
        outcome = lab.shell("readlink /proc/self/ns/net; cat /proc/net/dev; ls /sys/class/net", network="private")
        lines = outcome.text.splitlines()
        assert lines[0] != os.readlink("/proc/self/ns/net")
        assert lines[0] != lab.run("readlink", "/proc/self/ns/net", network="none").text
        assert [line.split(":")[0].strip() for line in lines[3:-1]] == ["lo"]
        assert lines[-1] == "lo"

    def test_given_control_groups_are_entered_before_anything_else(self, lab: Laboratory, tmp_path: Path) -> None:
        assert lab.run("true", group=str(tmp_path / "procs")).code == 0
        assert (tmp_path / "procs").read_text() == "0"

    def test_host_network_is_the_hosts(self, lab: Laboratory) -> None:
        ours = os.readlink("/proc/self/ns/net")
        assert lab.run("readlink", "/proc/self/ns/net").text == ours
