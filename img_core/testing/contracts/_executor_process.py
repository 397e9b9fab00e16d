"""What a step's process is given, and what comes of it: its status, its output, its terminal."""

from __future__ import annotations

import base64
import os

import pytest

from img_core.testing.contracts.driver import DriverContract
from img_core.testing.executor_lab import Laboratory
from img_core.testing.tiny_programs import exit_42_on_i386

__all__ = ["ProcessPromises"]


class ProcessPromises(DriverContract):
    """Promises about one process."""

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
        program = base64.b64encode(exit_42_on_i386()).decode()
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

    def test_programs_in_dev_may_be_started(self, lab: Laboratory) -> None:
        script = "cp /bin/busybox /dev/echo && /dev/echo started; rm -f /dev/echo"
        assert lab.shell(script).text == "started"

    def test_there_are_no_further_host_devices(self, lab: Laboratory) -> None:
        expected = "console core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero".split()  # noqa: SIM905
        assert set(lab.run("ls", "/dev").text.split()) <= set(expected)
