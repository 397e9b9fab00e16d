"""The frame of the command line: the forms, words, streams and exit statuses that the original img had, and better ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_support import environment

from img_core import __version__

if TYPE_CHECKING:
    from unit.cli.conftest import Run

COMMANDS = [
    "build",
    "doctor",
    "import",
    "inspect",
    "load",
    "ls",
    "plugins",
    "pull",
    "rm",
    "save",
    "tag",
    "unpack",
    "version",
]


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["help"]])
def test_help_is_data_and_no_error(words: list[str], run: Run) -> None:
    done = run(*words)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[0].startswith("img -  ")
    assert lines[2] == "Usage: img [OPTIONS] COMMAND [ARG...]"
    assert lines[-1] == 'Use "img [command] --help" for more information about a command.'
    assert all(any(line.startswith(f"  {name} ") for line in lines) for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_page(name: str, run: Run) -> None:
    done = run(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{name} -  ")
    assert f"\nUsage: img {name} " in done.stdout
    assert "\nGlobal Flags:\n" in done.stdout
    assert "--state string" in done.stdout
    assert run("help", name).stdout == done.stdout == run(name, "-h").stdout


@pytest.mark.parametrize("words", [["NOPE"], ["plugins", "NOPE"]])
def test_an_unknown_help_topic_is_an_error_with_the_overview(words: list[str], run: Run) -> None:
    done = run("help", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: Unknown help topic [`{' '.join(words)}`]\nSee 'img --help'\nimg -  ")


def test_a_mistyped_help_topic_gets_a_suggestion(run: Run) -> None:
    assert "\nhint: did you mean `img build`?\n" in run("help", "biuld").stderr


@pytest.mark.parametrize("words", [["-v"], ["--version"], ["-s", "x", "-v"]])
def test_version(words: list[str], run: Run) -> None:
    done = run(*words)
    assert done.returncode == 0
    assert done.stdout.startswith(f"img version {__version__}, build ")
    assert done.stdout.endswith("\n")


def test_version_before_a_command_does_not_run_it(run: Run) -> None:
    done = run("-v", "rm", "x")
    assert done.returncode == 0
    assert done.stdout.startswith(f"img {__version__}, build ")
    assert not done.stdout.endswith("\n")


def test_an_unknown_command_shows_the_overview_on_stderr(run: Run) -> None:
    done = run("foo")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: img: 'foo' is not an img command.\nSee 'img --help'\nimg -  ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bogus"], "Error: unknown flag: --bogus"),
        (["ls", "--bogus"], "Error: unknown flag: --bogus"),
        (["ls", "-x"], "Error: unknown shorthand flag: `-x`"),
        (["ls", "-v"], "Error: unknown shorthand flag: `-v`"),
        (["ls", "--filte", "x"], "Error: unknown flag: --filte"),
        (["ls", "x", "y"], "Error: ls expects no or one repository, found 2"),
        (["version", "x"], "Error: no arguments expected"),
        (["tag", "x"], "Error: must pass an image or repository and target to tag"),
        (["rm"], "Error: must pass an image to remove"),
        (["inspect"], "Error: must pass an image to inspect"),
        (["save"], "Error: must pass an image to save"),
        (["save", "--format", "blah", "x"], 'Error: "blah" is not a valid format'),
        (["unpack"], "Error: must pass an image to unpack as a rootfs"),
        (["pull"], "Error: must pass an image or repository to pull"),
        (["build"], "Error: must pass a path to build"),
        (["build", "-t", "x", "t", "y", "z"], "Error: build expects one PATH, found 3\nhint: too much: `y`, `z`\n"),
        (["image", "build", "-t", "x", "a", "b"], "Error: build expects one PATH, found 2\n"),
        (["pull", "a", "b"], "Error: pull expects one image, found 2\nhint: too much: `b`\n"),
        (["tag", "a", "b", "c"], "Error: tag expects an image and its new name, found 3\n"),
        (["history", "a", "b"], "Error: history expects one image, found 2\n"),
        (["unpack", "a", "b"], "Error: unpack expects one image, found 2\n"),
        (["push", "a", "b", "c"], "Error: push expects one image and perhaps a destination, found 3\n"),
        (["import", "-", "a", "b"], "Error: must pass a file (or `-`) and a name for the image"),
        (["login", "a", "b"], "Error: login expects zero or one arguments, found 2\n"),
        (["logout", "a", "b"], "Error: logout expects zero or one arguments, found 2\n"),
        (["load", "a"], "Error: no arguments expected"),
        (["du", "x"], "Error: no arguments expected"),
        (["prune", "x"], "Error: no arguments expected"),
        (["doctor", "x"], "Error: no arguments expected"),
        (["plugins", "ls", "x"], "Error: Got unexpected extra argument (x)"),
        (["inspect", "UPPER"], 'Error: parsing image name "UPPER" failed: invalid reference format'),
        (["ls", "--state", ""], "Error: `--state` is empty"),
        (["plugins", "nope"], "Error: unknown command `img plugins nope`"),
    ],
)
def test_mistakes_in_the_command_line_exit_with_2_and_one_line(words: list[str], message: str, run: Run) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert "Traceback" not in done.stderr


def test_a_mistyped_flag_gets_a_suggestion(run: Run) -> None:
    assert "hint: did you mean `--filter`?" in run("ls", "--filtre", "x").stderr


@pytest.mark.parametrize(
    "words",
    [
        ["-s", "S", "ls"], ["ls", "-s", "S"], ["--state", "S", "ls"], ["ls", "--state=S"], ["-s=S", "ls"], ["-sS", "ls"],
        ["-d", "ls", "-s", "S"], ["--debug", "-s", "S", "ls"], ["-d=true", "-s", "S", "ls"], ["--debug=false", "-s", "S", "ls"],
        ["-b", "native", "ls", "-s", "S"], ["ls", "-d", "-s", "S"], ["-s", "other", "ls", "-s", "S"],
    ],
)  # fmt: skip
def test_global_flags_work_before_and_after_the_command(words: list[str], run: Run, tmp_path: Path) -> None:
    run("import", "-", "app", "-s", "S", stdin=_tar())
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert "app:latest" in done.stdout


def _tar() -> bytes:
    from cli_support import rootfs_tar

    return rootfs_tar()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"XDG_DATA_HOME": "/H/data"}, "data/img"),
        ({"XDG_DATA_HOME": "/H/a:/H/b"}, "a/img"),
        ({"XDG_DATA_HOME": "relative"}, ".local/share/img"),
        ({}, ".local/share/img"),
    ],
)
def test_the_state_directory_follows_xdg(variables: dict[str, str], expected: str, run: Run, tmp_path: Path) -> None:
    given = {name: value.replace("/H", str(tmp_path)) for name, value in variables.items()}
    assert run("import", "-", "app", stdin=_tar(), **given).returncode == 0
    assert (tmp_path / expected / "img.db").exists()


def test_a_full_disk_behind_stdout_is_an_error(tmp_path: Path) -> None:
    for words in (["-v"], ["--help"], ["ls"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "img_core", *words],
                stdout=full,
                stderr=subprocess.PIPE,
                env=environment(tmp_path),
            )
        assert done.returncode == 1
        assert done.stderr == b"Error: cannot write to standard output: no space left on device\n"


@pytest.mark.parametrize("words", [["-v"], ["--help"], ["ls"], ["ls", "--help"], ["plugins"], ["plugins", "--help"]])
def test_a_stdout_that_cannot_be_written_is_an_error(words: list[str], tmp_path: Path) -> None:
    with open(os.devnull) as readable:
        done = subprocess.run(
            [sys.executable, "-m", "img_core", *words],
            stdout=readable.fileno(),
            stderr=subprocess.PIPE,
            env=environment(tmp_path),
        )
    assert done.returncode == 1
    assert done.stderr == b"Error: cannot write to standard output: bad file descriptor\n"


def test_a_closed_stdout_is_an_error(tmp_path: Path) -> None:
    command = f"exec {sys.executable} -m img_core ls >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, env=environment(tmp_path))
    assert done.returncode == 1
    assert done.stderr == b"Error: standard output is closed\n"


def test_a_closed_stderr_does_not_hide_the_exit_status(tmp_path: Path) -> None:
    command = f"exec {sys.executable} -m img_core rm nope 2>&-"
    assert subprocess.run(["sh", "-c", command], env=environment(tmp_path)).returncode == 1


def test_a_reader_that_goes_away_is_no_news(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "img_core", "--help"], stdout=writing, stderr=subprocess.PIPE, env=environment(tmp_path)
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_end_a_command_with_their_status(signum: signal.Signals, status: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "img_core", "import", "-", "app"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(tmp_path)
    )
    runs = tmp_path / ".local/share/img/run"
    deadline = time.monotonic() + 30
    while not (runs.is_dir() and any(runs.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.01)  # it now waits for standard input
    process.send_signal(signum)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == status
    assert stderr.startswith(b"Error: ")
    assert stderr.count(b"\n") == 1


def test_a_bug_is_one_line_and_a_report_without_the_command_line(run: Run, tmp_path: Path) -> None:
    _break_something(tmp_path)
    done = run("ls", "--filter", "name==secret", PYTHONPATH=f"{tmp_path}:{environment(tmp_path)['PYTHONPATH']}")
    first, second = done.stderr.splitlines()
    assert done.returncode == 125
    assert first == "Error: internal error: RuntimeError: a bug"
    report = Path(second.removeprefix("hint: please report this bug with the file "))
    text = report.read_text()
    assert "Traceback" in text
    assert "secret" not in text
    assert report.stat().st_mode & 0o077 == 0


def test_debug_shows_the_traceback(run: Run, tmp_path: Path) -> None:
    _break_something(tmp_path)
    done = run("-d", "ls", PYTHONPATH=f"{tmp_path}:{environment(tmp_path)['PYTHONPATH']}")
    assert "Traceback" in done.stderr
    assert "Traceback" in run("--debug", "rm", "nope").stderr
    assert "Traceback" not in run("rm", "nope").stderr


def _break_something(directory: Path) -> None:
    """Make listing images raise what no code expects."""
    (directory / "sitecustomize.py").write_text(
        "import img_core.cli._filters as filters\n"
        "def broken(*_): raise RuntimeError('a bug')\n"
        "filters.parse_filters = broken\n"
    )


def test_messages_cannot_play_with_the_terminal(run: Run) -> None:
    done = run("plugins", "info", "\x1b[2Jx\ny")
    assert "\x1b" not in done.stderr
    assert done.stderr.count("\n") == 2
    assert "\x1b" not in run("-d", "\x1b[2J").stderr


@pytest.mark.parametrize(
    "words", [["ls"], ["tag", "a", "b"], ["rm", "a"], ["save", "-o", "x", "a"], ["import", "-", "a"]]
)
@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_in_the_place_of_the_state_is_named(words: list[str], place: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = run(*words, "-s", place)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: state directory `{tmp_path}/{place}` cannot be used: ")
    assert (tmp_path / "file").read_text() == "mine"
