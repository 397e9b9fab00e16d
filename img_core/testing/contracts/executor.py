"""What every executor promises. Subclass `ExecutorContract` and name the class::

    class TestMine(ExecutorContract):
        executor = MyExecutor

Run as an ordinary user; needs a static busybox. Every test runs in full and in single-id mapping.
"""

# ruff: noqa: D102, S108 - a test's name is its claim; the paths are those of a container
from __future__ import annotations

import base64
import os
import random
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from img_core.spec import errors
from img_core.testing.contracts.driver import DriverContract
from img_core.testing.executor_lab import BUSYBOX, Laboratory, place_of
from img_core.testing.processes import CEILING, LARGE, eventually, processes_with

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.spec.executor import Executor

__all__ = ["ExecutorContract", "unusual_number"]

_FOURTEEN_CAPABILITIES = "00000000a80425fb"


_STAT = "stat -c %u:%g"
#: what a step does, its script, and what it prints: in both mappings the same
_SEEN = {
    "looks at a file": (f"echo > /f; chown 12:34 /f; {_STAT} /f; chown 12 /f; chgrp 5 /f; {_STAT} /f", "12:34 12:5"),
    "looks at a link": (f"ln -s x /l; chown -h 3:4 /l; {_STAT} /l", "3:4"),
    "looks at an open file": ("echo > /f; chown 9:9 /f; exec 5< /f; stat -L -c %u:%g /proc/self/fd/5", "9:9"),
    "looks from elsewhere": (
        f"mkdir -p /d/e; echo > /d/f; chown 1:2 /d/f; ln -s ../f /d/e/l; cd /d/e; {_STAT} ../f; stat -L -c %u:%g l",
        "1:2 1:2",
    ),
    "copies with owners": (f"mkdir /d; echo > /d/f; chown -R 1:2 /d; cp -a /d /e; {_STAT} /e /e/f", "1:2 1:2"),
    "packs and unpacks": (
        f"mkdir /d; echo > /d/f; chown -R 5:6 /d; tar cf /t.tar -C / d; rm -r /d; tar xpf /t.tar -C /; {_STAT} /d /d/f",
        "5:6 5:6",
    ),
    "becomes a user": ("su bob -c 'id -u; id -g; id -G'", "1000 1001 1001 50"),
    "becomes nobody's parent": (
        "su bob -c '(sh -c \"id -u\" > /tmp/u; echo > /tmp/done) & '; while [ ! -e /tmp/done ]; do :; done; cat /tmp/u",
        "1000",
    ),
    "makes files as a user": (
        f"su bob -c 'cd /tmp; umask 27; echo > f; mkdir d; ln -s f l; mkfifo p; {_STAT} f d l p'; stat -c %u:%a /tmp/f /tmp/d",
        "1000:1001 1000:1001 1000:1001 1000:1001 1000:640 1000:750",
    ),
    "appends to what is there": (
        f"echo a > /f; chmod 666 /f; su bob -c 'echo b >> /f; set -C; echo c 2> /tmp/e > /f || echo no'; cat /f; {_STAT} /f",
        "no a b 0:0",
    ),
    "hands a group down": (
        f"mkdir /d; chown 0:50 /d; chmod 2775 /d; echo > /d/f; mkdir /d/e; {_STAT} /d/f /d/e; stat -c %a /d/e",
        "0:50 0:50 2755",
    ),
    "may not give away": (
        f"su bob -c 'cd /tmp; echo > f; chgrp 50 f; chown 0 f 2> e || echo no; chown bob f; {_STAT} f'",
        "no 1000:50",
    ),
    "cannot come back": ("su bob -c 'su root -c id < /dev/null > /dev/null 2>&1 || echo no'", "no"),
    "asks whose it is": ("echo > /f; [ -O /f ] && echo mine; chown 3 /f; [ -O /f ] || echo other", "mine other"),
}


class ExecutorContract(DriverContract):
    """The promises of `img_core.spec.Executor`, each as a test."""

    kind = "executor"
    holder = "executor"
    executor: ClassVar[type[Executor]]
    #: seconds for the start of a program to its end, with room for a busy machine
    budget: ClassVar[float] = 0.3

    @pytest.fixture(scope="class", params=["full", "single"])
    @classmethod
    def class_lab(cls, request: pytest.FixtureRequest) -> Iterator[Laboratory]:
        """One laboratory for all tests of a class and mapping."""
        lab = cls.make_lab(request.param)
        yield lab
        lab.close()

    @pytest.fixture
    def lab(self, class_lab: Laboratory) -> Laboratory:
        """A laboratory with a fresh root file system."""
        class_lab.ask("reset")
        return class_lab

    @classmethod
    def make_lab(cls, mapping: str) -> Laboratory:
        """Start a laboratory, or skip when this host lacks what it needs."""
        if not os.access(BUSYBOX, os.X_OK):
            pytest.skip("needs a static busybox")
        lab = Laboratory(place_of(cls.executor), mapping, cls.options)
        mode = lab.identity["mode"]
        if mapping == "full" and mode == "single":
            lab.close()
            pytest.skip(f"only a single id can be mapped: {lab.identity['reason']}")
        return lab

    # --- exit status and output

    @pytest.mark.parametrize("code", [0, 1, 42, 255])
    def test_exit_code_is_passed_on(self, lab: Laboratory, code: int) -> None:
        assert lab.shell(f"exit {code}").code == code

    def test_death_by_signal_is_128_plus_its_number(self, lab: Laboratory) -> None:
        # The first process of a namespace is immune to its own SIGKILL, so a child dies and the shell reports it.
        assert lab.shell("sh -c 'kill -9 $$'; exit $?").code == 137
        assert lab.shell("sh -c 'kill -15 $$'; exit $?").code == 143

    @pytest.mark.skipif(os.uname().machine != "x86_64", reason="the program is for x86 processors")
    def test_programs_of_32_bits_run(self, lab: Laboratory) -> None:
        program = base64.b64encode(_exit_42_on_i386()).decode()
        assert lab.shell(f"echo {program} | base64 -d > /narrow; chmod +x /narrow").code == 0
        assert lab.run("/narrow").code == 42

    def test_missing_program_is_127_and_named(self, lab: Laboratory) -> None:
        outcome = lab.run("no-such-program")
        assert outcome.code == 127
        assert b"no-such-program" in outcome.errors
        outcome = lab.run("/bin/absent")
        assert outcome.code == 127
        assert b"/bin/absent" in outcome.errors

    def test_file_without_execute_permission_is_126_and_named(self, lab: Laboratory) -> None:
        lab.ask("write", path="data", text="#!/bin/sh\n")
        outcome = lab.run("/data")
        assert outcome.code == 126
        assert b"/data" in outcome.errors

    def test_script_with_a_missing_interpreter_is_explained(self, lab: Laboratory) -> None:
        lab.ask("write", path="script", text="#!/usr/bin/perl6\n", mode=0o755)
        outcome = lab.run("/script")
        assert outcome.code in (1, 126, 127)  # OCI runtimes say 1
        assert b"/script" in outcome.errors

    def test_output_and_errors_stay_apart(self, lab: Laboratory) -> None:
        outcome = lab.shell("echo out; echo err >&2")
        assert (outcome.output, outcome.errors) == (b"out\n", b"err\n")

    def test_big_output_arrives_whole(self, lab: Laboratory) -> None:
        assert len(lab.shell("head -c 3000000 /dev/zero").output) == 3_000_000

    def test_stdin_is_empty(self, lab: Laboratory) -> None:
        assert lab.shell("cat").output == b""

    def test_what_stdin_is_given_is_read(self, lab: Laboratory) -> None:
        assert lab.run("cat", stdin="some text\n").output == b"some text\n"

    def test_a_terminal_is_all_three_and_controls_the_session(self, lab: Laboratory) -> None:
        # crun 1.8 may lose what a process writes to its terminal in its very last moment.
        script = "test -t 0 && test -t 1 && test -t 2 && echo three; echo opened > /dev/tty; stty size; sleep 0.5"
        outcome = lab.shell(script, typed=[])
        assert outcome.output.split() == [b"three", b"opened", b"33", b"99"]
        assert outcome.code == 0

    def test_what_is_typed_is_read_and_echoed(self, lab: Laboratory) -> None:
        outcome = lab.shell(
            "echo ready; read -r word; echo got $word; sleep 0.5; exit 7", typed=[("ready", "a word\n")]
        )
        assert outcome.output.replace(b"\r", b"") == b"ready\na word\ngot a word\n"
        assert outcome.code == 7

    def test_ctrl_c_interrupts_what_runs_in_the_foreground_and_nothing_else(self, lab: Laboratory) -> None:
        script = "trap 'echo caught; sleep 0.5; exit 5' INT; echo ready; while :; do sleep 0.1; done"
        outcome = lab.shell(script, typed=[("ready", "\x03")])
        assert b"caught" in outcome.output
        assert outcome.code == 5

    def test_an_interactive_shell_has_job_control(self, lab: Laboratory) -> None:
        typed = [
            ("# ", "(echo beg$((1))n; sleep 1000)\n"),
            ("beg1n", "\x03"),
            ("# ", "echo sta$((1))tus\n"),
            ("sta1tus", "exit 6\n"),
        ]
        outcome = lab.run("sh", "-i", env=[["PATH", "/bin"], ["PS1", "# "]], typed=typed)
        assert b"job control turned off" not in outcome.output
        assert outcome.code == 6
        assert outcome.seconds < 60

    def test_cancellation_ends_what_has_a_terminal(self, lab: Laboratory) -> None:
        outcome = lab.shell("echo ready; sleep 1000", typed=[], cancel="ready")
        assert outcome.canceled

    def test_standard_output_can_be_opened_by_name(self, lab: Laboratory) -> None:
        assert lab.shell("echo by-name > /dev/stdout").text == "by-name"

    # --- what the process is given

    def test_environment_is_exactly_as_given(self, lab: Laboratory) -> None:
        # OCI runtimes insist on HOME.
        environment = [["PATH", "/bin"], ["HOME", "/"], ["A", "b c=d"], ["EMPTY", ""], ["NAME", "ünï"]]
        outcome = lab.run("cat", "/proc/self/environ", env=environment)
        assert sorted(outcome.output.split(b"\0")[:-1]) == sorted(f"{k}={v}".encode() for k, v in environment)

    def test_arguments_are_exactly_as_given(self, lab: Laboratory) -> None:
        outcome = lab.run("cat", "/proc/self/cmdline", "/dev/null", "/dev/../dev/null")
        assert outcome.output == b"cat\0/proc/self/cmdline\0/dev/null\0/dev/../dev/null\0"

    def test_large_arguments_arrive(self, lab: Laboratory) -> None:
        assert lab.run("echo", "x" * 120_000).text == "x" * 120_000

    def test_program_is_found_on_the_given_path(self, lab: Laboratory) -> None:
        lab.ask("write", path="tools/greet", text="#!/bin/sh\necho found\n", mode=0o755)
        assert lab.run("greet", env=[["PATH", "/nowhere:/tools:/bin"]]).text == "found"

    def test_working_directory(self, lab: Laboratory) -> None:
        lab.ask("write", path="work/dir/file", text="")
        assert lab.run("pwd", cwd="/work/dir").text == "/work/dir"

    def test_missing_working_directory_is_made_for_the_user(self, lab: Laboratory) -> None:
        assert lab.run("pwd", cwd="/made/here").text == "/made/here"
        assert lab.ask("stat", path="made/here")["mode"] == 0o755

    def test_umask(self, lab: Laboratory) -> None:
        assert lab.shell("umask").text == "0022"
        assert lab.shell("umask", umask=0o077).text == "0077"

    def test_only_the_three_standard_descriptors_are_open(self, lab: Laboratory) -> None:
        # The shell's redirection is the shell's own; `ls` has one more for the directory it reads.
        names = lab.run("ls", "/proc/self/fd").text.split()
        assert names == ["0", "1", "2", "3"]

    def test_host_name(self, lab: Laboratory) -> None:
        assert lab.run("hostname", hostname="some-name").text == "some-name"

    def test_resource_limits(self, lab: Laboratory) -> None:
        assert lab.shell("ulimit -n; ulimit -c", ulimits=[["nofile", 77, 77], ["core", 0, 0]]).text.split() == [
            "77",
            "0",
        ]

    def test_shared_memory_has_the_given_size(self, lab: Laboratory) -> None:
        outcome = lab.shell("df -k /dev/shm | tail -n 1", shm_size=8 * 1024 * 1024)
        assert outcome.text.split()[1] == "8192"

    def test_signals_have_their_default_meaning(self, lab: Laboratory) -> None:
        text = lab.run("grep", "-E", "Sig(Ign|Blk)", "/proc/self/status").text
        assert [line.split()[1] for line in text.splitlines()] == ["0000000000000000"] * 2

    def test_devices_work(self, lab: Laboratory) -> None:
        script = (
            "echo x > /dev/null && head -c 4 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c && test -e /dev/ptmx"
        )
        assert lab.shell(script).text.split() == ["4", "4"]

    def test_there_are_no_further_host_devices(self, lab: Laboratory) -> None:
        expected = "console core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero".split()  # noqa: SIM905
        assert set(lab.run("ls", "/dev").text.split()) <= set(expected)

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

    # --- mounts

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
        assert outcome.text.split()[2] == "1024"
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

    # --- ends

    def test_background_processes_end_with_the_step(self, lab: Laboratory) -> None:
        seconds = unusual_number()
        assert lab.shell(f"sleep {seconds} & setsid sleep {seconds} & echo started").text == "started"
        assert processes_with(seconds) == []

    def test_cancel_ends_everything_at_once(self, lab: Laboratory) -> None:
        seconds = unusual_number()
        script = f"trap '' TERM INT; setsid sleep {seconds} & sleep {seconds} & echo ready; wait"
        outcome = lab.shell(script, cancel="ready")
        assert outcome.canceled
        assert outcome.seconds < 10 + self.budget  # at once, on a machine that has much to do
        assert processes_with(seconds) == []

    @pytest.mark.parametrize("mapping", ["full", "single"])
    def test_nothing_is_left_when_the_builder_is_killed(self, mapping: str) -> None:
        lab = self.make_lab(mapping)
        seconds = unusual_number()
        script = f"setsid sleep {seconds} & sleep {seconds}"
        process = {"args": ["sh", "-c", script], "env": [["PATH", "/bin"]]}
        lab.ask("background", process=process)
        lab.ask("background", process={**process, "uid": 1000, "gid": 1000})
        eventually(lambda: len(processes_with(seconds)) >= 4)
        lab.kill()
        eventually(lambda: processes_with(seconds) == [])
        assert lab.identity["scratch"] not in Path("/proc/self/mountinfo").read_text()

    def test_descriptors_do_not_leak(self, lab: Laboratory, tmp_path: Path) -> None:
        mounts = [{"target": "/m", "source": str(tmp_path)}]
        before = lab.ask("descriptors")
        lab.run("true", mounts=mounts)
        lab.run("no-such-program", mounts=mounts)
        assert lab.ask("descriptors") == before
        assert os.listdir(lab.identity["run"]) == []

    def test_a_full_disk_is_an_error_of_one_line_and_leaves_nothing(self, lab: Laboratory, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        mounts = [{"target": "/made/here/file", "source": str(tmp_path / "file")}]

        def left() -> object:
            return lab.ask("list"), lab.ask("descriptors"), lab.ask("working_files")

        before = left()
        for room in (0, 1, 300):
            outcome = lab.run("echo", "well", mounts=mounts, room=room)
            kind, _, message = outcome.error.partition(": ")
            if kind:
                assert issubclass(getattr(errors, kind, Exception), errors.ImgError), outcome.error
                assert "\n" not in message
            else:  # it had nothing to write, or put that elsewhere
                assert (outcome.code, outcome.text) == (0, "well"), outcome.errors
            assert left() == before
        assert lab.run("echo", "well", mounts=mounts).text == "well"

    def test_output_takes_little_memory(self, lab: Laboratory) -> None:
        outcome = lab.run("head", "-c", str(LARGE), "/dev/zero", drop=True)
        assert (outcome.code, outcome.error) == (0, "")
        assert outcome.grown < CEILING

    def test_start_to_end_is_quick(self, lab: Laboratory) -> None:
        times = [lab.run("true").seconds for _ in range(10)]
        assert min(times) < self.budget

    # --- ownership

    def test_owners_are_set_or_recorded(self, lab: Laboratory) -> None:
        script = "mkdir /dir; echo > /file; chown 12:34 /dir /file; chown 56:78 /file; cd /dir; chown 9:9 absent ../bin/absent"
        assert lab.shell(script).code == 1  # of the last chown
        assert _owner(lab, "dir") == (12, 34)
        assert _owner(lab, "file") == (56, 78)

    def test_owner_of_a_symlink_is_set_or_recorded(self, lab: Laboratory) -> None:
        outcome = lab.shell("echo > /file; ln -s file /link; chown -h 12:34 /link; mkfifo /pipe; chown 5:6 /pipe")
        assert outcome.code == 0
        recorded = {(device, inode): (uid, gid) for device, inode, uid, gid in outcome.owners}
        for path, owner in (("link", (12, 34)), ("pipe", (5, 6))):
            entry = lab.ask("stat", path=path)
            found = (entry["uid"], entry["gid"]) if lab.mapping != "single" else recorded[tuple(entry["key"])]
            assert found == owner
        assert _owner(lab, "file") == (0, 0)

    def test_owner_given_back_to_root_is_forgotten(self, lab: Laboratory) -> None:
        outcome = lab.shell(
            "echo > /file; chown 12:34 /file; chown 0:0 /file; ln -s x /l; chown -h 1:1 /l; chown -h 0:0 /l"
        )
        assert outcome.code == 0
        assert _owner(lab, "file") == (0, 0)
        assert all(owner[2:] == [0, 0] for owner in map(list, outcome.owners))

    def test_a_file_that_is_rewritten_in_place_keeps_its_owner(self, lab: Laboratory) -> None:
        script = (
            "echo a > /kept; chown 12:34 /kept; sed -i s/a/b/ /kept; cat /kept;"
            "echo a > /replaced; chown 12:34 /replaced; echo c > /new; chown 0:0 /new; mv /new /replaced; cat /replaced"
        )
        assert lab.shell(script).text.split() == ["b", "c"]
        assert _owner(lab, "kept") == (12, 34)
        assert _owner(lab, "replaced") == (0, 0)

    @pytest.mark.parametrize("what", _SEEN)
    def test_a_step_sees_the_owners_and_ids_that_it_asked_for(self, lab: Laboratory, what: str) -> None:
        script, expected = _SEEN[what]
        lab.ask("write", path="etc/passwd", text="root:x:0:0::/:/bin/sh\nbob:x:1000:1001::/:/bin/sh\n")
        lab.ask("write", path="etc/group", text="root:x:0:\nbob:x:1001:\nclub:x:50:bob\n")
        outcome = lab.shell(f"mkdir -m 1777 /tmp; set -e; {script}")
        assert (outcome.text.split(), outcome.errors) == (expected.split(), b"")

    @pytest.mark.skipif(os.uname().machine != "x86_64", reason="the program is for x86_64")
    def test_a_set_user_id_program_has_the_ids_of_its_owner(self, lab: Laboratory) -> None:
        lab.ask("write", path="program", text="", mode=0o755)
        program = base64.b64encode(_exit_with_euid_on_x86_64()).decode()
        script = f"echo {program} | base64 -d > /program; /program; echo $?; chown 7:8 /program; chmod 4755 /program; /program"
        outcome = lab.shell(script, uid=0)
        assert (outcome.text, outcome.code) == ("0", 7)
        assert lab.run("/program", uid=9, gid=9).code == 7

    def test_what_a_user_makes_is_his_and_what_root_makes_is_roots(self, lab: Laboratory) -> None:
        script = "mkdir -m 777 /w; cd /w; echo > f; mkdir d; ln -s x l; mkfifo p; stat -c %u:%g f d l p"
        assert lab.shell(f"mkdir /w; chmod 777 /w; {script}", uid=0).text.split() == ["0:0"] * 4
        assert lab.shell(f"cd /w; {script.replace('/w', '/w/mine')}", uid=3, gid=4).text.split() == ["3:4"] * 4

    def test_renaming_works_as_ever(self, lab: Laboratory) -> None:
        script = (
            "mkdir -p /d/e; echo 1 > /d/f; mv /d/f /d/e/g; ln -s g /d/e/l; mv /d/e/l /d/l; cd /d; mv e h; cat h/g;"
            "mv absent x 2> /dev/null || echo none; mv h/g /sys/x 2> /dev/null || echo refused; readlink l"
        )
        assert lab.shell(script).text.split() == ["1", "none", "refused", "g"]

    def test_owner_of_files_on_mounts_is_set_or_recorded(self, lab: Laboratory, tmp_path: Path) -> None:
        mounts = [{"target": "/tmpfs", "kind": "tmpfs", "readonly": False}]
        assert lab.shell("echo > /tmpfs/file; chown 3:4 /tmpfs/file", mounts=mounts).code == 0

    def test_extracting_an_archive_with_owners(self, lab: Laboratory) -> None:
        script = "mkdir /d; echo > /d/f; ln -s f /d/l; chown -hR 12:34 /d; tar cf /t.tar -C / d; rm -r /d; tar xf /t.tar -C /"
        assert lab.shell(script).code == 0
        assert _owner(lab, "d/f") == (12, 34)

    def test_changing_the_user_inside_a_step_succeeds(self, lab: Laboratory) -> None:
        lab.ask("write", path="etc/passwd", text="root:x:0:0::/:/bin/sh\nbob:x:1000:1000::/:/bin/sh\n")
        lab.ask("write", path="etc/group", text="root:x:0:\nbob:x:1000:\n")
        outcome = lab.shell("su bob -c 'echo switched'")
        assert outcome.text == "switched"


def _owner(lab: Laboratory, path: str) -> tuple[int, int]:
    """Return the owner that a layer would get."""
    entry = lab.ask("stat", path=path)
    if lab.mapping == "single":
        uid, gid = (entry["recorded"] or "0:0").split(":")
        return int(uid), int(gid)
    assert not entry["recorded"]
    return entry["uid"], entry["gid"]


def _exit_with_euid_on_x86_64() -> bytes:
    """Return a static program: mov eax, 107 (geteuid); syscall; mov edi, eax; mov eax, 60 (exit); syscall."""
    code = bytes.fromhex("b86b000000 0f05 89c7 b83c000000 0f05")
    base, offset = 0x400000, 64 + 56
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + offset, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, offset + len(code), offset + len(code), 4096)
    return identity + header + segment + code


def _exit_42_on_i386() -> bytes:
    """Return a static program: mov ebx, 42; mov eax, 1 (exit); int 0x80. The headers are those of elf(5)."""
    code = bytes.fromhex("bb2a000000 b801000000 cd80")
    base, offset = 0x08048000, 52 + 32
    identity = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    header = struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, base + offset, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    segment = struct.pack("<IIIIIIII", 1, 0, base, base, offset + len(code), offset + len(code), 5, 4096)
    return identity + header + segment + code


def unusual_number() -> str:
    """Return a number of seconds that no other process on this machine sleeps for."""
    return f"{random.randrange(10_000, 99_999)}.{os.getpid()}"  # noqa: S311 - not a secret
