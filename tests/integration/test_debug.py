"""What a failed step left: a shell in it at once (`--on-error=shell`), or later (`img debug`), with all that the step had."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.disks import small_disk
from harness.img import Img, write_context
from harness.processes import descendants, executing, wait_until
from harness.pseudo_terminal import TerminalSession
from harness.terminal import Terminal
from img_core.api import Client, ImgError

pytestmark = pytest.mark.rootless

DOCKERFILE = "FROM busybox\nENV PS1='inside>'\nRUN echo made > /made; echo output; false\n"
HINT = "hint: `img debug last` opens a shell in what the step left"


def fails(img: Img, tmp_path: Path, dockerfile: str, *words: str, name: str = "context", **files: str | bytes) -> Path:
    """Let a build fail at its last step; return the context."""
    context = write_context(tmp_path / name, dockerfile, files)
    done = img.build(context, *words)
    assert done.returncode == 4, str(done)
    assert "exit code: " in done.error, str(done)
    assert HINT in done.stderr, str(done)
    return context


def snapshots(img: Img) -> list[str]:
    lines = img.run("du", "--format", "json").ok().text.splitlines()
    return [found["Description"] for found in map(json.loads, lines) if found["Description"].startswith("failed: ")]


def shows(text: str) -> Callable[[Terminal], bool]:
    return lambda screen: any(text in line for line in screen.everything)


# ------------------------------------------------------------------------------------------------------------- at once


def test_a_shell_opens_in_the_failed_step(img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", DOCKERFILE)
    with TerminalSession(img, "build", "--on-error=shell", "-t", "x", context, columns=100) as session:
        session.wait_for(shows("inside>"))
        session.press(b"cat /made; stty size\n")
        session.wait_for(shows("24 100"))
        assert shows("made")(session.screen)
        session.press(b"exit\n")
        assert session.end() == 4
        everything = "".join(session.screen.everything)
        assert "exit code: 1" in everything
        assert everything.index("output") < everything.index("inside>")
        assert session.settings_now() == session.settings
    assert "docker.io/library/x:latest" not in img.names()


def test_ctrl_c_belongs_to_the_shell(img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", DOCKERFILE)
    with TerminalSession(img, "build", "--on-error=shell", context) as session:
        session.wait_for(shows("inside>"))
        session.press(b"(echo beg$((1))n; sleep 1000)\n")
        session.wait_for(shows("beg1n"))
        session.press(b"\x03")
        session.wait_for(lambda screen: sum("inside>" in line for line in screen.everything) > 1)
        session.press(b"echo sta$((1))s; exit\n")
        session.wait_for(shows("sta1s"))
        assert session.end() == 4
        assert session.settings_now() == session.settings


def test_a_window_that_changes_changes_for_the_shell(img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", DOCKERFILE)
    with TerminalSession(img, "build", "--on-error=shell", context) as session:
        session.wait_for(shows("inside>"))
        session.resize(120, 40)
        session.press(b"while test \"$(stty size)\" != '40 120'; do sleep 0.1; done; echo now\n")
        session.wait_for(lambda screen: "now" in screen.everything)
        session.press(b"exit\n")
        assert session.end() == 4


def test_a_signal_ends_shell_and_build_and_leaves_the_terminal_as_it_was(img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", DOCKERFILE)
    with TerminalSession(img, "build", "--on-error=shell", context) as session:
        session.wait_for(shows("inside>"))
        assert session.settings_now() != session.settings
        session.process.send_signal(signal.SIGTERM)
        assert session.end() == 143
        assert session.settings_now() == session.settings
    assert list((img.state / "run").iterdir()) == []


@pytest.mark.parametrize("words", ["build --on-error=shell", "debug last"])
def test_a_terminal_that_goes_away_takes_everything_along(words: str, img: Img, tmp_path: Path) -> None:
    context = fails(img, tmp_path, DOCKERFILE)
    session = TerminalSession(img, *words.split(), *([context] if words.startswith("build") else []))
    try:
        session.wait_for(shows("inside>"))
    finally:
        session.hang_up()
    # The signal, or first the end of the shell: then the step has failed, and the shell ended by the same signal or well.
    assert session.process.wait(30) in ((129, 4) if words.startswith("build") else (129, 0))
    assert list((img.state / "run").iterdir()) == []


def test_only_one_of_two_failed_steps_opens_a_shell(img: Img, tmp_path: Path) -> None:
    dockerfile = (
        "FROM busybox AS a\nENV PS1='inside>'\nRUN sleep 1; exit 3\nFROM busybox AS b\nENV PS1='inside>'\n"
        "RUN sleep 1; exit 4\nFROM busybox\nCOPY --from=a / /a\nCOPY --from=b / /b\n"
    )
    with TerminalSession(img, "build", "--on-error=shell", write_context(tmp_path / "context", dockerfile)) as session:
        session.wait_for(shows("inside>"))
        session.press(b"exit\n")
        assert session.end() == 4
        assert sum("the build fails when you leave it" in line for line in session.screen.everything) == 1


def test_a_build_that_does_not_fail_opens_none(img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM busybox\nRUN true\n")
    with TerminalSession(img, "build", "--on-error=shell", "-t", "x", context) as session:
        assert session.end() == 0


def test_without_a_terminal_there_is_no_shell(img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", DOCKERFILE)
    img.build(context, "--on-error=shell").refused(2, "`--on-error=shell` needs a terminal")
    assert img.build(context, "--on-error=fail").returncode == 4


# --------------------------------------------------------------------------------------------------------------- later


def test_what_a_step_left_can_be_entered_later_and_does_not_change(img: Img, tmp_path: Path) -> None:
    fails(img, tmp_path, DOCKERFILE)
    assert img.run("debug", "last", "--", "cat", "/made").ok().text == "made\n"
    assert img.run("debug", "--", "sh", "-c", "echo more > /made; rm /etc/motd; exit 7").returncode == 7
    assert img.run("debug", "last", "--", "cat", "/made").ok().text == "made\n"
    assert img.run("debug", stdin=b"cat /made\nexit 9\n").returncode == 9
    (build,) = Client(state=img.state).builds()
    assert img.run("debug", build.id[:5], "--", "cat", "/made").ok().text == "made\n"
    assert list((img.state / "run").iterdir()) == []


def test_a_shell_opens_later(img: Img, tmp_path: Path) -> None:
    fails(img, tmp_path, DOCKERFILE)
    with TerminalSession(img, "debug", "last") as session:
        session.wait_for(shows("inside>"))
        session.press(b"cat /made; tty; exit 6\n")
        assert session.end() == 6
        assert shows("made")(session.screen)
        assert session.settings_now() == session.settings


EVERYTHING = """\
FROM busybox AS files
RUN echo from-a-stage > /in-a-stage
FROM busybox
RUN echo someone:x:1234:1234::/:/bin/sh >> /etc/passwd; mkdir -p /work/dir; chown 1234 /work/dir
ARG WORD
ENV VARIABLE=value
WORKDIR /work/dir
USER someone
RUN --mount=type=bind,from=files,target=/mnt/stage \\
    --mount=type=bind,source=file,target=/mnt/file \\
    --mount=type=cache,target=/mnt/cache,uid=1234 \\
    --mount=type=tmpfs,target=/mnt/tmpfs \\
    --mount=type=secret,id=token,target=/mnt/secret,uid=1234,required=true \\
    --mount=type=secret,id=word,env=SECRET \\
    echo cached > /mnt/cache/x; echo here > mine; exit 5
"""

#: What a command prints in the failed step of `EVERYTHING`.
HAS = {
    "echo $VARIABLE $WORD": "value word",
    "pwd": "/work/dir",
    "id -u": "1234",
    "cat mine": "here",
    "cat /mnt/stage/in-a-stage": "from-a-stage",
    "cat /mnt/file": "from-the-context",
    "cat /mnt/cache/x": "cached",
    "cat /mnt/secret; echo": "s3cret",
    "echo $SECRET": "s3cret-word",
    "stat -f -c %T /mnt/tmpfs": "tmpfs",
    "cat /etc/hosts | grep -c localhost": "2",
    "hostname": "buildkitsandbox",
}


def test_everything_is_there_that_the_step_had(img: Img, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    img = img.with_environment(WORD_SECRET="s3cret-word")
    flags = ["--build-arg", "WORD=word", "--secret", f"id=token,src={secret}", "--secret", "id=word,env=WORD_SECRET"]
    fails(img, tmp_path, EVERYTHING, *flags, file="from-the-context")
    script = "; ".join(f"echo '[{number}]'; {command}" for number, command in enumerate(HAS))
    printed = img.run("debug", "last", "--", "sh", "-c", script).ok().text
    found = [part.partition("]\n")[2].strip() for part in printed.split("[")[1:]]
    assert dict(zip(HAS, found, strict=True)) == HAS
    img.run("debug", "--", "sh", "-c", "echo again > /mnt/cache/x").ok()
    assert img.run("debug", "--", "cat", "/mnt/cache/x").ok().text == "again\n"
    for path in (img.state / "failed").iterdir():
        assert "s3cret" not in path.read_text()
        assert path.stat().st_mode & 0o077 == 0
    secret.unlink()
    done = img.run("debug", "--", "sh", "-c", "test -e /mnt/secret || cat mine").ok()
    assert done.text == "here\n"
    assert "the secret `token` is not there any more" in done.stderr


def test_the_dockerfile_may_have_changed_or_gone_meanwhile(img: Img, tmp_path: Path) -> None:
    context = fails(img, tmp_path, DOCKERFILE)
    (context / "Dockerfile").unlink()
    assert img.run("debug", "--", "cat", "/made").ok().text == "made\n"


@pytest.mark.parametrize("backend", ["overlayfs", "native"])
@pytest.mark.parametrize("ids", ["full", "single"])
def test_each_backend_and_mapping_keeps_it(backend: str, ids: str, img: Img, tmp_path: Path) -> None:
    img = img.with_environment(IMG_IDMAP=ids)
    context = write_context(tmp_path / "context", "FROM busybox\nRUN echo x > /x; chown 5:6 /x; false\n")
    assert img.run("--backend", backend, "build", context).returncode == 4
    assert img.run("debug", "--", "cat", "/x").ok().text == "x\n"
    other = {"full": "single", "single": "full"}[ids]
    img.with_environment(IMG_IDMAP=other).run("debug", "--", "true").refused(1, "is not kept any more")


@pytest.mark.parametrize("executor", ["userns", "runc,runtime=runc", "runc,runtime=crun"])
def test_each_executor_is_asked(executor: str, img: Img, tmp_path: Path) -> None:
    fails(img, tmp_path, DOCKERFILE, "--executor", executor)
    assert img.run("debug", "--", "cat", "/made").ok().text == "made\n"
    with TerminalSession(img, "debug", "last") as session:
        session.wait_for(shows("inside>"))
        session.press(b"exit 6\n")
        assert session.end() == 6


# ------------------------------------------------------------------------------------------------------- how long, and whose


def test_it_is_kept_until_the_next_build_of_its_kind(img: Img, tmp_path: Path) -> None:
    context = fails(img, tmp_path, DOCKERFILE)
    assert len(snapshots(img)) == 1
    fails(img, tmp_path, "FROM busybox\nRUN echo other > /made; exit 2\n", name="other")
    assert len(snapshots(img)) == 2
    assert img.run("debug", "--", "cat", "/made").ok().text == "other\n"
    first, second = (build.id for build in reversed(Client(state=img.state).builds()))
    assert img.run("debug", first, "--", "cat", "/made").ok().text == "made\n"
    assert img.run("debug", second, "--", "cat", "/made").ok().text == "other\n"
    assert img.build(context).returncode == 4
    assert len(snapshots(img)) == 2
    img.run("debug", first, "--", "true").refused(1, "no failed step of the build")
    write_context(context, "FROM busybox\n")
    img.build(context).ok()
    assert len(snapshots(img)) == 1
    assert img.run("debug", "--", "cat", "/made").ok().text == "other\n"


def test_prune_takes_it_and_says_so(img: Img, tmp_path: Path) -> None:
    fails(img, tmp_path, DOCKERFILE)
    img.run("prune").ok()
    assert snapshots(img) == []
    img.run("debug", "--", "true").refused(1, "is not kept any more")
    img.build(write_context(tmp_path / "good", "FROM scratch\nCOPY x /\n", {"x": ""})).ok()
    assert list((img.state / "failed").iterdir()) == []
    img.run("debug", "--", "true").refused(1, "no failed step is kept here")
    img.run("fsck").ok()


def test_nobody_takes_it_while_somebody_looks_at_it(img: Img, tmp_path: Path) -> None:
    context = fails(img, tmp_path, DOCKERFILE)
    with TerminalSession(img, "debug", "last") as session:
        session.wait_for(shows("inside>"))
        img.run("prune").ok()
        write_context(context, "FROM busybox\n")
        img.build(context).ok()
        session.press(b"cat /made && exit 6\n")
        assert session.end() == 6
    assert len(snapshots(img)) == 1
    img.build(context).ok()
    assert snapshots(img) == []


def test_a_step_that_failed_is_no_result_of_it(img: Img, tmp_path: Path) -> None:
    context = write_context(
        tmp_path / "context", "FROM busybox\nRUN --mount=type=cache,target=/c test -e /c/x || { touch /c/x; false; }\n"
    )
    assert img.build(context).returncode == 4
    img.build(context).ok()
    assert snapshots(img) == []


def test_a_canceled_build_keeps_nothing(img: Img, tmp_path: Path) -> None:
    process = img.start("build", write_context(tmp_path / "context", "FROM busybox\nRUN sleep 1000\n"))
    wait_until(lambda: "sleep" in img.run("logs").text, "the step")
    process.terminate()
    assert process.wait() == 143
    assert snapshots(img) == []


def test_a_disk_that_is_nearly_full_gets_its_space_back(tmp_path: Path, busybox_archive: Path) -> None:
    """The step leaves room for what keeping it would write, and no more."""
    (tmp_path / "disk").mkdir()
    fill = "head -c 400000 /dev/zero > /little; dd if=/dev/zero of=/big bs=64k; rm /little; false"
    with small_disk("tmpfs", tmp_path / "disk", 24) as disk:
        img = Img(disk.path / "state", tmp_path, (("IMG_IDMAP", "single"), ("IMG_SYNC", "0")))
        disk.run(img, "load", "-i", busybox_archive).ok()
        before = disk.free()
        context = write_context(tmp_path / "context", f"FROM busybox\nRUN {fill}\n")
        done = disk.run(img, "build", "-q", "--backend", "native", context)
        assert done.returncode == 4, str(done)
        assert HINT not in done.stderr
        assert before - disk.free() < (5 << 20)
        disk.run(img, "debug", "--", "true").refused(1, "no failed step is kept here")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("debug",), "no failed step is kept here", id="nothing"),
        pytest.param(("debug", "last", "ls"), "expects one BUILD", id="no-dashes"),
    ],
)
def test_a_wrong_word_is_named(words: tuple[str, ...], message: str, img: Img) -> None:
    done = img.run(*words)
    assert done.returncode in (1, 2)
    assert message in done.error
    assert "hint: " in done.stderr


def test_a_damaged_note_is_one_line(img: Img, tmp_path: Path) -> None:
    fails(img, tmp_path, DOCKERFILE)
    (note,) = (img.state / "failed").iterdir()
    document = json.loads(note.read_text())
    note.write_text(json.dumps({**document, "version": 99}))
    img.run("debug", "--", "true").refused(1, "cannot be read")
    note.write_text("{")
    img.run("debug", "--", "true").refused(1, "no failed step is kept here")
    img.build(write_context(tmp_path / "good", "FROM busybox\n")).ok()
    assert list((img.state / "failed").iterdir()) == []


def test_a_library_call_says_that_it_needs_this_process(img: Img) -> None:
    with pytest.raises(ImgError, match="needs a client that works in this process"):
        Client(state=img.state).debug(lambda _failure: None)


def test_the_terminal_outside_is_not_open_inside(img: Img, tmp_path: Path) -> None:
    """Who has it open could type on it, which the shell outside would execute."""
    fails(img, tmp_path, DOCKERFILE)
    with TerminalSession(img, "debug", "last") as session:
        session.wait_for(shows("inside>"))
        (pid,) = descendants(session.process.pid).intersection(executing("/bin/sh"))
        inside = {os.path.realpath(f"/proc/{pid}/fd/{number}") for number in range(3)}
        outside = os.path.realpath(f"/proc/{session.process.pid}/fd/0")
        assert outside not in inside
        session.press(b"exit\n")
        session.end()
