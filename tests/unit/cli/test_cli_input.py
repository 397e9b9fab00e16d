"""Standard input that cannot be read, or is no text: one line says so, whichever command wanted it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from img_core.cli import _input, _pruning
from img_core.spec.errors import ImgError, UsageError

READERS = {
    "load": ["load"],
    "import": ["import", "-", "app"],
    "context": ["build", "-"],
    "Dockerfile": ["build", "-f", "-", "."],
    "bake": ["bake", "-f", "-"],
    "worker": ["worker", "-"],
    "password": ["login", "-u", "joe", "--password-stdin", "127.0.0.1:1"],
}


@pytest.mark.parametrize("words", READERS.values(), ids=list(READERS))
@pytest.mark.parametrize(("mode", "said"), [("closed", "is closed"), ("w", "is open for writing only")])
def test_standard_input_that_cannot_be_read_is_named(words: list[str], mode: str, said: str, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "LANG": "C.UTF-8"}
    redirected = "<&-" if mode == "closed" else "0>file"
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-m", "img_core", "-s", "state", *words],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == f"Error: standard input {said}"


def given(monkeypatch: pytest.MonkeyPatch, path: Path, content: bytes) -> Callable[[], None]:
    """Make a file with *content* standard input, in the encoding of most people; return what closes it."""
    path.write_bytes(content)
    file = path.open(encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", file)
    return file.close


def test_answer_that_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    close = given(monkeypatch, tmp_path / "typed", b"\xff\n")
    with pytest.raises(UsageError, match="the answer on standard input is not UTF-8"):
        _input.typed_line()
    close()


@pytest.mark.parametrize("content", [b"", b"n\n", b"\xffy\n"], ids=["none", "no", "no text"])
def test_what_was_not_confirmed_is_not_removed(content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    close = given(monkeypatch, tmp_path / "typed", content)
    with pytest.raises(ImgError, match="nothing was removed: this was not confirmed"):
        _pruning.confirm("everything goes")
    close()


def test_a_line_that_was_typed_is_returned_without_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    close = given(monkeypatch, tmp_path / "typed", "Zoë \r\nmore\n".encode())
    assert _input.typed_line() == "Zoë "
    close()


def test_a_terminal_that_goes_away_while_a_password_is_typed_is_named(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "LANG": "C.UTF-8"}
    main, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "img_core", "-s", "state", "login", "-u", "joe", "127.0.0.1:1"],
        stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment,
    )  # fmt: skip
    os.close(terminal)
    assert process.stdout is not None
    assert process.stdout.read(len("Password: ")) == b"Password: "
    os.close(main)
    _, said = process.communicate(timeout=30)
    told = {b"cannot read standard input: input/output error", b"password is required"}  # it waited already, or not yet
    assert (process.returncode, said.removeprefix(b"Error: ").rstrip()) in [(2, each) for each in told]
    assert list(tmp_path.glob("img-report-*")) == []
