"""The process model with the real kernel: each test runs a small program of its own, as nobody may enter in the test process."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

pytestmark = pytest.mark.rootless

HELPERS = """
import json, os, signal, sys, threading, time
from img_core.linux import _id_maps, syscalls, userns
from img_core.linux.zygote import Zygote
"""


def program(source: str, prefix: Sequence[str] = (), **environment: str) -> str:
    """Run *source* in a fresh interpreter; return what it printed."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    command = [*prefix, sys.executable, "-c", HELPERS + textwrap.dedent(source)]
    finished = subprocess.run(
        command, env=variables | environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


# Entries that the zygote imports from this module.


def say(payload: dict[str, Any], fds: Sequence[int]) -> int:
    os.write(fds[0], payload["text"].encode())
    return len(payload["text"]) % 100


def fail(_payload: object, _fds: object) -> NoReturn:
    raise ValueError("the entry does not like it")


def wait_forever(_payload: object, _fds: object) -> NoReturn:
    while True:
        time.sleep(1)


def look_around(_payload: object, fds: Sequence[int]) -> None:
    names = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    os.write(fds[0], repr(len(names)).encode())


def leave_orphan(_payload: object, fds: Sequence[int]) -> None:
    if os.fork() == 0:
        os.setsid()
        os.write(fds[0], b"orphan")
        time.sleep(3600)


# --- entering


def test_full_mapping_owns_many_ids() -> None:
    output = program("""
        identity = userns.enter()
        print(identity.mode, os.getuid(), identity.fallback_reason)
        if identity.mode != "single":
            os.setresuid(1000, 1000, 1000)
    """)
    if output.startswith("single"):
        pytest.skip(output)
    mode, uid, reason = output.split(maxsplit=2)
    assert (mode in ("full", "root"), uid, reason) == (True, "0", "None")


def test_real_identity_is_remembered() -> None:
    output = program("""
        identity = userns.enter()
        print(identity.uid, identity.gid, identity.home, os.getuid(), os.getgid())
    """)
    assert output.split() == [str(os.getuid()), str(os.getgid()), os.environ.get("HOME", "/"), "0", "0"]


def test_single_mapping_can_be_forced() -> None:
    output = program("i = userns.enter(); print(i.mode, len(i.uid_ranges), i.entered, os.getuid())", IMG_IDMAP="single")
    assert output.split() == ["single", "1", "True", "0"]


@pytest.mark.skipif(os.getuid() == 0, reason="root needs no tools")
def test_missing_map_tools_lead_to_a_single_id_and_a_reason(tmp_path: Path) -> None:
    output = program("i = userns.enter(); print(i.mode, i.fallback_reason)", PATH=str(tmp_path))
    assert output.startswith("single `newuidmap` is not on PATH")


@pytest.mark.skipif(os.getuid() == 0, reason="root needs no tools")
def test_failing_map_tools_lead_to_a_single_id_and_their_words(tmp_path: Path) -> None:
    for name in ("newuidmap", "newgidmap"):
        (tmp_path / name).write_text("#!/bin/sh\necho no luck today >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    output = program("i = userns.enter(); print(i.mode, os.getuid(), i.fallback_reason)", PATH=path)
    assert output.startswith("single 0 ")
    assert "no luck today" in output


@pytest.mark.skipif(os.getuid() == 0, reason="root needs no tools")
def test_ranges_of_a_directory_service_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "getsubids").write_text('#!/bin/sh\n[ "$1" = -g ] && echo "0: $2 7 8" || echo "0: $1 5 6"\n')
    (tmp_path / "getsubids").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    output = program(
        "print(_id_maps._directory_ranges('uid', 'ann'), _id_maps._directory_ranges('gid', 'ann'))", PATH=path
    )
    assert output == "[(5, 6)] [(7, 8)]"


@pytest.mark.skipif(os.getuid() == 0, reason="root needs no tools")
@pytest.mark.parametrize(
    ("tool", "expression", "expected"),
    [
        ("getsubids", "_id_maps._directory_ranges('uid', 'ann')", "[]"),
        (
            "newuidmap",
            "_id_maps._run_map_tools(1, (_id_maps._find_tool('newuidmap'), ()))",
            "cannot be run: No such file",
        ),
    ],
)
def test_a_tool_without_its_interpreter_is_as_good_as_missing(
    tmp_path: Path, tool: str, expression: str, expected: str
) -> None:
    (tmp_path / tool).write_text("#!/nowhere\n")
    (tmp_path / tool).chmod(0o755)
    assert expected in program(f"print({expression})", PATH=f"{tmp_path}:{os.environ['PATH']}")


@pytest.mark.skipif(os.getuid() == 0, reason="root needs no tools")
def test_full_mapping_can_be_demanded(tmp_path: Path) -> None:
    output = program(
        """
        try:
            userns.enter()
        except Exception as err:
            print(type(err).__name__, err)
        """,
        PATH=str(tmp_path),
        IMG_IDMAP="full",
    )
    assert output.startswith("HostError cannot map subordinate ids")


def test_threads_are_refused_with_a_hint() -> None:
    output = program("""
        threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
        try:
            userns.enter()
        except Exception as err:
            print(type(err).__name__, err.hint)
        os._exit(0 if sys.stdout.flush() is None else 1)
    """)
    assert output.startswith("HostError")
    assert "subprocess" in output


def test_entering_inside_a_namespace_makes_no_further_one() -> None:
    prefix = ["unshare", "-Ur"]
    output = program("i = userns.enter(); print(i.mode, i.entered)", prefix=prefix)
    assert output.split() == ["single", "False"]


def test_mounts_stay_inside(tmp_path: Path) -> None:
    output = program(f"""
        userns.enter()
        syscalls.mount("none", {str(tmp_path)!r}, "tmpfs")
        print(os.statvfs({str(tmp_path)!r}).f_bsize, open("/proc/self/mountinfo").read().count({str(tmp_path)!r}))
    """)
    assert output.split()[1] == "1"
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_entering_is_quick() -> None:
    output = program("""
        t = time.perf_counter(); userns.enter(); print(time.perf_counter() - t)
    """)
    assert float(output) < 0.5  # 5 ms on a quiet machine


# --- the zygote


def test_entry_gets_payload_and_descriptors() -> None:
    output = program("""
        userns.enter()
        with Zygote.start().spawn("test_userns:say", {"text": "héllo"}, fds=[1]) as process:
            print("", process.wait(), process.error)
    """)
    assert output == "héllo 5"


def test_large_payload_arrives() -> None:
    output = program("""
        userns.enter()
        read, write = os.pipe()
        with Zygote.start().spawn("test_userns:say", {"text": "x" * 50 + "y" * 0, "more": "z" * 3_000_000}, fds=[write]) as p:
            print(p.wait(), os.read(read, 100))
    """)
    assert output == f"50 {b'x' * 50!r}"


def test_raising_entry_is_reported_to_the_caller() -> None:
    output = program("""
        userns.enter()
        with Zygote.start().spawn("test_userns:fail", {}) as process:
            print(process.wait(), process.error)
    """)
    assert output == "70 the entry does not like it"


@pytest.mark.parametrize("entry", ["no_such_module:x", "test_userns:no_such_function"])
def test_unknown_entry_is_refused_and_the_zygote_lives(entry: str) -> None:
    output = program(f"""
        userns.enter()
        zygote = Zygote.start()
        try:
            zygote.spawn({entry!r}, {{}})
        except Exception as err:
            print(type(err).__name__, end=" ")
        print(zygote.spawn("test_userns:say", {{"text": "x"}}, fds=[2]).wait())
    """)
    assert output == "HostError 1"


def test_killed_process_has_the_status_of_its_signal() -> None:
    output = program("""
        userns.enter()
        process = Zygote.start().spawn("test_userns:wait_forever", {}, flags=syscalls.CLONE_NEWPID)
        process.kill()
        print(process.wait())
        process.kill()
        process.close()
    """)
    assert output == "137"


def test_many_threads_spawn_at_once() -> None:
    output = program("""
        userns.enter()
        zygote = Zygote.start()
        results = []
        def work(number):
            for _ in range(10):
                with zygote.spawn("test_userns:say", {"text": "x" * number}, fds=[2]) as process:
                    results.append(process.wait() == number)
        threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 9)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(len(results), all(results), len(os.listdir("/proc/self/fd")))
    """)
    count, everything, descriptors = output.split()
    assert (count, everything) == ("80", "True")
    assert int(descriptors) < 12


def test_processes_get_no_descriptors_of_others() -> None:
    output = program("""
        userns.enter()
        zygote = Zygote.start()
        first = [zygote.spawn("test_userns:wait_forever", {}) for _ in range(5)]
        zygote.spawn("test_userns:look_around", {}, fds=[1]).wait()
    """)
    alone = program("userns.enter(); Zygote.start().spawn('test_userns:look_around', {}, fds=[1]).wait()")
    assert output == alone


def test_dead_zygote_is_an_error_not_a_hang() -> None:
    output = program("""
        userns.enter()
        zygote = Zygote.start()
        process = zygote.spawn("test_userns:wait_forever", {})
        os.kill(zygote.pid, signal.SIGKILL)
        for attempt in (process.wait, lambda: zygote.spawn("test_userns:say", {"text": ""}, fds=[1])):
            try:
                attempt()
            except Exception as err:
                print(type(err).__name__)
    """)
    assert output.split() == ["HostError", "HostError"]


def test_zygote_survives_a_lack_of_descriptors() -> None:
    output = program("""
        import resource
        userns.enter()
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 1000))
        zygote = Zygote.start()
        resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))
        fds = [os.dup(1) for _ in range(60)]
        try:
            zygote.spawn("test_userns:say", {"text": "x"}, fds=fds)
        except Exception as err:
            print(type(err).__name__, end=" ")
        print(zygote.spawn("test_userns:say", {"text": "xxx"}, fds=[2]).wait())
    """)
    assert output == "HostError 3"


def test_process_that_nobody_can_be_told_of_is_ended_and_the_zygote_lives() -> None:
    output = program("""
        import errno, socket
        send, failures = socket.send_fds, [OSError(errno.ETOOMANYREFS, "too many references")]
        def send_fds(sock, buffers, fds):
            if failures and b'"started"' in buffers[0]:
                raise failures.pop()
            return send(sock, buffers, fds)
        userns.enter()
        socket.send_fds = send_fds
        zygote = Zygote.start()
        try:
            zygote.spawn("test_userns:wait_forever", {})
        except Exception as err:
            print(err)
        with open(f"/proc/{zygote.pid}/task/{zygote.pid}/children") as file:
            print(file.read().split())
        print(zygote.spawn("test_userns:say", {"text": "xxx"}, fds=[2]).wait())
    """)
    refusal, children, status = output.splitlines()
    assert refusal == "cannot start a process for `test_userns:wait_forever`: OSError: [Errno 109] too many references"
    assert (children, status) == ("[]", "3")


def test_terminal_signals_do_not_reach_the_zygote() -> None:
    output = program("""
        userns.enter()
        zygote = Zygote.start()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            syscalls.pidfd_send_signal(zygote.pidfd, number)
        print(zygote.spawn("test_userns:say", {"text": "xx"}, fds=[2]).wait())
    """)
    assert output == "2"


@pytest.mark.parametrize("mapping", ["full", "single"])
def test_orphans_die_with_the_builder(mapping: str) -> None:
    script = HELPERS + textwrap.dedent("""
        userns.enter()
        zygote = Zygote.start()
        zygote.spawn("test_userns:leave_orphan", {}, fds=[1]).wait()
        sys.stdout.flush()
        time.sleep(100)
    """)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    if mapping == "single":
        environment["IMG_IDMAP"] = "single"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.read(6) == b"orphan"
        process.kill()
        # The pipe ends only when the last process that holds it is gone.
        assert process.stdout.read() == b""
