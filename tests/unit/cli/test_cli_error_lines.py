"""No line that tells what went wrong is longer than 1,000 characters, and each still tells what and why."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_support import img

LONG = "n" * 200
DEEP = "/".join([LONG] * 19)
MANY = "x" * 4000


@pytest.mark.parametrize(
    ("words", "ends"),
    [
        (["build", "-t", "x", "/".join(["a"] * 2000)], "no such directory"),
        (["build", "-t", "x", "/".join(["a"] * 4000)], "file name too long"),
        (["build", "-t", "x", "-f", DEEP, "."], "no such file or directory"),
        (["build", "-t", "x", "-f", MANY, "."], "file name too long"),
        (["build", "-t", "x", "--secret", f"id=a,src={DEEP}", "."], "no such file or directory"),
        (["build", "-t", "x", "--build-context", f"a={DEEP}", "."], ""),
        (["build", "-t", MANY, "."], ""),
        (["build", "-t", "x", "--add-host", MANY, "."], "for --add-host"),
        (["build", "-t", "x", "-o", f"type={MANY}", "."], ""),
        (["build", f"--{MANY}"], ""),
        (["build", "-t", "x", "a", *[LONG] * 30], "found 31"),
        ([MANY], "is not an img command."),
        (["help", MANY], ""),
        (["ls", "-f", f"{MANY}=1"], 'unsupported operator "="'),
        (["inspect", LONG[:128]], "not found"),
        (["inspect", f"r.example/{'/'.join(['n' * 30] * 60)}"], ""),
        (["load", "-i", DEEP], "no such file or directory"),
        (["load", "-i", "\x1b" * 2000], "file name too long"),
        (["import", DEEP, "x"], "no such file or directory"),
        (["unpack", "-o", ".", MANY], "destination directory already exists: ."),
        (["plugins", "info", MANY], "not found"),
        (["ls", "-s", f"file/{DEEP}"], ""),
        (["prune", "--until", MANY], "is not a duration"),
        (["pull", "--platform", MANY, "x"], ""),
        (["pull", f"127.0.0.1:1/{'n' * 240}:{'t' * 127}"], ""),
    ],
)
def test_a_long_word_makes_no_long_line(words: list[str], ends: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = img(tmp_path, *words)
    assert done.returncode not in (0, 125), done.stderr
    lines = done.stderr.splitlines()
    error = next(line for line in lines if line.startswith("Error: "))
    assert max(map(len, lines)) <= 1000
    assert error.endswith(ends), error


def test_warnings_and_the_lines_of_the_progress_are_bounded_too(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM scratch\nCOPY {DEEP} /\n")
    done = img(tmp_path, "build", "-t", "x", "--progress=plain", ".")
    assert done.returncode not in (0, 125)
    shown = [line for line in done.stderr.splitlines() if not line.startswith(("#", "   ", "  2", ">>>"))]
    assert max(map(len, shown)) <= 1000
    assert all(len(line) <= 1000 for line in done.stderr.splitlines() if "ERROR" in line)
