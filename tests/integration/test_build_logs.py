"""What builds leave to be read later: `img builds ls` and `img logs`, also of builds that failed, were killed, or had no disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness.disks import small_disk
from harness.img import Img, write_context
from harness.terminal import Terminal
from img_core.api import Client
from img_core.spec.progress import StepFinished, StepLog

pytestmark = pytest.mark.rootless

DOCKERFILE = "FROM busybox\nARG TOKEN\nRUN echo from-one\nRUN echo from-two; echo aside >&2; seq 2000\n"


def listed(img: Img, *words: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in img.run("builds", "ls", "--format", "json", *words).ok().text.splitlines()]


def test_each_build_is_listed_with_what_became_of_it(img: Img, tmp_path: Path) -> None:
    good = write_context(tmp_path / "good", DOCKERFILE)
    bad = write_context(
        tmp_path / "bad", "FROM busybox AS last\nRUN echo x\nRUN exit 3\n", {"other": "FROM busybox\nBAD\n"}
    )
    img.build(good, tag="good").ok()
    img.build(good, tag="good").ok()
    assert img.run("build", "--target", "last", "-t", "bad", bad).returncode == 4
    assert img.run("build", "-f", bad / "other", bad).returncode == 3
    broken, failed, second, first = listed(img)
    assert [build["Result"] for build in (first, second, failed, broken)] == ["ok", "ok", "failed", "failed"]
    assert (first["CachedSteps"], first["Steps"], second["CachedSteps"], second["Steps"]) == (0, 2, 2, 2)
    assert (failed["CachedSteps"], failed["Steps"], failed["Target"]) == (0, 2, "last")
    assert "exit code: 3" in str(failed["Error"])
    assert first["Tags"] == ["good"]
    assert first["Context"] == str(good)
    assert first["Digest"] == second["Digest"] != ""
    assert broken["Definition"] == str(bad / "other")
    table = img.run("builds", "ls").ok().text.splitlines()
    assert table[0].split() == ["BUILD", "STARTED", "DURATION", "RESULT", "CACHED", "TAGS", "CONTEXT"]
    assert len(table) == 5
    assert "2/2" in table[3]
    assert "--target last" in table[2]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(("-n", "1"), ["c"], id="last"),
        pytest.param(("--filter", "result=failed"), ["b"], id="docker"),
        pytest.param(("--filter", "result==ok"), ["c", "a"], id="containerd"),
        pytest.param(("--filter", "result=ok", "-n", "1"), ["c"], id="filter-and-last"),
        pytest.param(("--filter", "tag=a"), ["a"], id="tag"),
        pytest.param(("--filter", "tag~=^more"), ["c"], id="one-of-several-tags"),
        pytest.param(("--filter", "tag=a", "--filter", "result=failed"), [], id="both"),
    ],
)
def test_builds_are_chosen(words: tuple[str, ...], expected: list[str], img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM busybox\nARG STATUS=0\nRUN exit $STATUS\n")
    img.build(context, tag="a").ok()
    assert img.build(context, "--build-arg", "STATUS=7", tag="b").returncode == 4
    img.build(context, "-t", "more:1", tag="c").ok()
    assert [build["Tags"][0] for build in listed(img, *words)] == expected  # type: ignore[index]


def test_the_log_has_every_line_of_every_step(img: Img, tmp_path: Path) -> None:
    img.build(write_context(tmp_path / "context", DOCKERFILE), "-q").ok()
    shown = img.run("logs").ok().text
    assert "RUN echo from-one" in shown
    numbers = [line.split()[-1] for line in shown.splitlines() if line[-1:].isdigit() and "RUN" not in line]
    assert [number for number in numbers if number in ("1", "1000", "2000")] == ["1", "1000", "2000"]
    assert "aside" in shown
    (step,) = {line.split()[0] for line in shown.splitlines() if line.endswith(" from-two")}
    alone = img.run("logs", "--step", step.removeprefix("#")).ok().text
    assert "from-two" in alone
    assert "from-one" not in alone.replace("RUN echo from-one", "")
    assert img.run("logs", "last").ok().text == shown
    (build,) = listed(img)
    assert img.run("logs", str(build["ID"])[:6]).ok().text == shown
    assert img.run("buildx", "history", "logs", str(build["ID"])).ok().text == shown
    for line in img.run("logs", "--progress", "rawjson").ok().text.splitlines():
        json.loads(line)


def test_a_log_can_be_shown_as_the_build_was(img: Img, tmp_path: Path) -> None:
    """What `--progress=plain` wrote then is what `img logs` writes now, but for transfers that got on meanwhile."""
    context = write_context(tmp_path / "context", DOCKERFILE)
    then = img.run("build", "--progress", "plain", "-t", "built", context).ok().stderr
    now = img.run("logs").ok().text
    assert [line for line in now.splitlines() if line[:1] == "#"] == [
        line for line in then.splitlines() if line[:1] == "#"
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("logs", "zzz"), 'build "zzz": not found', id="unknown"),
        pytest.param(("logs", "--step", "99"), "has no step 99", id="step"),
        pytest.param(("logs", "a", "b"), "expects one BUILD", id="two"),
        pytest.param(("logs", "--progress", "nonsense"), "unknown progress `nonsense`", id="form"),
        pytest.param(("builds", "ls", "x"), "no arguments expected", id="argument"),
        pytest.param(("builds", "ls", "--filter", "x=~y"), "listing builds", id="filter"),
    ],
)
def test_a_wrong_word_is_named(words: tuple[str, ...], message: str, img: Img, tmp_path: Path) -> None:
    img.build(write_context(tmp_path / "context", "FROM busybox\n"), "-q").ok()
    done = img.run(*words)
    assert done.returncode in (1, 2), str(done)
    assert message in done.error


def test_without_builds_there_is_nothing_to_see(img: Img) -> None:
    assert listed(img) == []
    img.run("logs").refused(1, "no build has a log here")


def test_a_killed_build_leaves_what_its_steps_said(img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM busybox\nRUN echo said; touch /seen; sleep 1000\n")
    process = img.start("build", "-t", "x", context)
    try:
        deadline = time.monotonic() + 60
        while not (img.state / "logs").exists() or "said" not in img.run("logs").text.replace("echo said", ""):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert [build["Result"] for build in listed(img)] == ["running"]
        assert "log of the build" not in img.run("prune", "--dry-run").ok().text
        os.killpg(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert [build["Result"] for build in listed(img)] == ["killed"]
    assert "said" in img.run("logs").ok().text.replace("echo said", "")


def test_a_canceled_build_is_called_so(img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM busybox\nRUN echo said; sleep 1000\n")
    log = tmp_path / "progress"
    process = img.start("build", "--progress", "plain", context, log=log)
    deadline = time.monotonic() + 60
    while " said" not in log.read_text().replace("echo said", ""):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.terminate()
    assert process.wait() == 143
    assert [build["Result"] for build in listed(img)] == ["canceled"]


def test_the_build_goes_on_without_its_log(img: Img, tmp_path: Path) -> None:
    img.state.joinpath("logs").write_text("in the way")
    done = img.build(write_context(tmp_path / "context", "FROM busybox\nRUN echo hello\n")).ok()
    assert "the log of this build is not complete: " in done.stderr
    assert done.stderr.count("not complete") == 1
    assert listed(img) == []


@pytest.mark.slow
def test_a_disk_that_is_full_of_output_fails_no_build(tmp_path: Path, busybox_archive: Path) -> None:
    """The output of the step does not fit on the disk, its result does."""
    (tmp_path / "disk").mkdir()
    with small_disk("tmpfs", tmp_path / "disk", 12) as disk:
        img = Img(disk.path / "state", tmp_path, (("IMG_IDMAP", "single"), ("IMG_SYNC", "0")))
        disk.run(img, "load", "-i", busybox_archive).ok()
        context = write_context(
            tmp_path / "context", "FROM busybox\nRUN head -c 12000000 /dev/zero | tr '\\0' x; echo kept > /kept\n"
        )
        done = disk.run(img, "build", "-q", "--backend", "native", "-t", "built", context)
        assert done.returncode == 0 or "no space left" in done.stderr, str(done)
        assert "the log of this build is not complete: no space left on device" in done.stderr, str(done)


def test_what_is_secret_is_not_in_the_log(img: Img, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret-file")
    mounts = "--mount=type=secret,id=a --mount=type=secret,id=b,env=B"
    dockerfile = f"FROM busybox\nARG TOKEN\nRUN {mounts} cat /run/secrets/a >/dev/null; false\n"
    context = write_context(tmp_path / "context", dockerfile)
    flags = ["--secret", f"id=a,src={secret}", "--secret", "id=b,env=B_SECRET", "--build-arg", "TOKEN=s3cret-argument"]
    done = img.with_environment(B_SECRET="s3cret-variable").build(context, *flags)
    assert done.returncode == 4
    url = "https://user:s3cret-password@127.0.0.1:9/x.git"
    assert img.run("build", url).returncode != 0
    for path in (img.state / "logs").iterdir():
        assert "s3cret" not in path.read_text()
        assert path.stat().st_mode & 0o077 == 0
    assert "s3cret" not in img.run("builds", "ls", "--no-trunc").ok().text


def test_logs_are_pruned_and_shown_in_du(img: Img, tmp_path: Path) -> None:
    img.build(write_context(tmp_path / "context", "FROM busybox\nRUN echo x\n")).ok()
    (build,) = listed(img)
    assert f"log of the build {build['ID']}" in img.run("du", "--no-trunc").ok().text
    img.run("builder", "prune", "-f").ok()
    assert len(listed(img)) == 1
    img.run("prune").ok()
    assert listed(img) == []


def test_output_is_kept_byte_by_byte(img: Img, tmp_path: Path) -> None:
    dockerfile = "FROM busybox\nRUN printf '\\303\\251 \\377\\033[2J\\000 end'; printf 'no line end'\n"
    img.build(write_context(tmp_path / "context", dockerfile)).ok()
    client = Client(state=img.state)
    events = list(client.logs())
    assert (
        b"".join(event.data for event in events if isinstance(event, StepLog))
        == b"\xc3\xa9 \xff\x1b[2J\x00 endno line end"
    )
    assert any(isinstance(event, StepFinished) for event in events)
    assert client.builds(limit=1)[0].result == "ok"
    screen = Terminal()
    screen.feed(img.run("logs").ok().text)
    assert screen.unknown == []


def test_a_reader_that_has_enough_ends_it_quietly(img: Img, tmp_path: Path) -> None:
    img.build(write_context(tmp_path / "context", "FROM busybox\nRUN seq 100000\n")).ok()
    command = " ".join(img.command("logs"))
    done = subprocess.run(
        ["sh", "-c", f"{command} | head -n 1"], capture_output=True, env=img.environment(), check=True
    )
    assert (done.stdout[:2], done.stderr) == (b"#1", b"")
    with open("/dev/full", "wb") as full:
        lost = subprocess.run(
            img.command("logs"), stdout=full, stderr=subprocess.PIPE, env=img.environment(), check=False
        )
    assert lost.returncode == 1
    assert b"cannot write to standard output" in lost.stderr
