"""The command ``executor``."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from typing import TYPE_CHECKING, NoReturn

from img_core.spec.errors import ImgError, UsageError
from img_core.spec.text import one_line, show
from img_kaniko.flags import FLAGS, Given, parse
from img_kaniko.registries import own_configuration, registries
from img_kaniko.translate import build_of

if TYPE_CHECKING:
    from img_kaniko.translate import Build

__all__ = ["main", "run"]

#: Where kaniko's image has its credentials, which its users mount there.
_LOGINS = "/kaniko/.docker"


def main() -> NoReturn:
    """Be the command; the exit status is that of ``img build``, or 2 for a wrong command line."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["version"]:
        sys.stdout.write(f"img-kaniko {version('img-kaniko')}\n")
        sys.exit(0)
    if set(arguments) & {"-h", "--help", "help"}:
        sys.stdout.write(_help() + "\n")
        sys.exit(0)
    try:
        sys.exit(run(arguments))
    except ImgError as err:
        _say(f"Error: {err.message}")
        if err.hint:
            _say(f"hint: {err.hint}")
        sys.exit(err.exit_code)


def run(arguments: Sequence[str]) -> int:
    """Build as *arguments* say, write kaniko's files, return the exit status. Raises ImgError."""
    given = parse(arguments)
    environment = dict(os.environ)
    if "DOCKER_CONFIG" not in environment and os.path.isdir(_LOGINS):
        environment["DOCKER_CONFIG"] = _LOGINS
    build = build_of(given, environment)
    for note in given.notes:
        _say(f"note: {note}")
    _say("running: " + shlex.join(["img", *build.arguments]))
    with tempfile.TemporaryDirectory(prefix="img-kaniko-") as scratch:
        environment.update(build.environment)
        environment.update(own_configuration(registries(given, environment), scratch, environment))
        metadata = os.path.join(scratch, "metadata")
        status = _run(build, environment, metadata)
        if status == 0:
            _write_files(given, build, metadata)
    return status


def _run(build: Build, environment: dict[str, str], metadata: str) -> int:
    at = build.arguments.index("--")
    command = [*build.arguments[:at], "--metadata-file", metadata, *build.arguments[at:]]
    with ExitStack() as opened:
        source = None
        if build.input is not None:
            try:
                source = opened.enter_context(open(build.input, "rb"))
            except OSError as err:
                raise UsageError(f"`{show(build.input)}` cannot be read: {err.strerror}") from err
        process = subprocess.Popen([sys.executable, "-I", "-m", "img_core", *command], stdin=source, env=environment)
        for number in (signal.SIGTERM, signal.SIGHUP):  # the terminal sends SIGINT to both of us
            signal.signal(number, lambda got, _frame: process.send_signal(got))
        signal.signal(signal.SIGINT, lambda _got, _frame: None)
        status = process.wait()
    return status if status >= 0 else 128 - status


def _write_files(given: Given, build: Build, metadata: str) -> None:
    """Write the files with the digest of the image, and with its names and digest, one a line."""
    with open(metadata, encoding="utf-8") as file:
        digest = str(json.load(file).get("containerimage.digest", ""))
    repositories = [name.rpartition(":")[0] for name in build.destinations]
    texts = {
        "digest-file": digest,
        "image-name-with-digest-file": "".join(f"{name}@{digest}\n" for name in repositories),
        "image-name-tag-with-digest-file": "".join(f"{name}@{digest}\n" for name in build.destinations),
    }
    for flag, text in texts.items():
        if path := given.text(flag):
            try:
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
            except OSError as err:
                raise ImgError(f"`{show(path)}` cannot be written: {err.strerror}") from err


def _help() -> str:
    lines = ["Build an image with kaniko's flags: executor --context CONTEXT --destination NAME", ""]
    for flag in FLAGS:
        what = (
            f"(not supported: {flag.refusal})"
            if flag.refusal
            else f"(no meaning here: {flag.note})"
            if flag.note
            else ""
        )
        letter = f"-{flag.letter}, " if flag.letter else "    "
        value = "" if flag.kind == "switch" else " VALUE"
        lines.append(f"  {letter}--{flag.name}{value}  {what}".rstrip())
    return "\n".join(lines)


def _say(text: str) -> None:
    sys.stderr.write(one_line(text) + "\n")
    sys.stderr.flush()
