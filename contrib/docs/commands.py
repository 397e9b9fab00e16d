"""Write docs/reference/commands.md from the help pages of the commands: run it after changing one.

With ``--check`` it only tells whether the page is up to date.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pages import write_or_check

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/reference/commands.md"

HEAD = """# Commands

<!-- Made by contrib/docs/commands.py from the help pages; a test keeps it up to date. -->

Options may stand before or after the command. stdout is data, stderr is talk. Exit codes: 0 done, 1 failed, 2 wrong usage,
3 the Dockerfile is wrong, 4 a step failed, 5 a registry refused our identity, 6 a registry failed, 7 the host lacks something,
125 a bug in img, 130 and 143 stopped by Ctrl-C and SIGTERM.

`--trace FILE` writes what took how long, in the format that https://ui.perfetto.dev and chrome://tracing show: imports, requests, waits,
steps and so on, per thread. The variable `IMG_TRACE` does the same for commands that others run; `%p` in the name becomes the process id.

The compiled modules of a command are kept in one file in `$XDG_CACHE_HOME/img/modules` (`~/.cache/img/modules`; some megabytes for each
installation), which the next one starts faster from. It counts only while nothing changed that decides what Python would import, and may be
deleted at any time; `IMG_NO_BUNDLE=1` neither reads nor writes it, `PYTHONDONTWRITEBYTECODE=1` does not write it.

`img completion bash|zsh|fish` prints a script that lets the shell complete commands, flags, plugins with their options, images and stages;
the wheel brings it for all three, and a manual page for each command.

docker's words work too: `images`, `rmi`, `image ls`, `builder prune`, `system df` and others. Flags of podman and buildah that mean what is
here are taken, and not shown below: `--authfile FILE` (the variable `REGISTRY_AUTH_FILE`), `--tls-verify=false` (`--insecure-registry`;
`true` is the default), `--jobs` (`--max-parallelism`), `--format oci|docker` of `build` (`-o type=image,oci-mediatypes=…`), `--layers` and
`--skip-unused-stages` (always so). Of other flags an error says what to use.
"""


def page() -> str:
    """Return the whole page."""
    from img_core.cli._commands import COMMANDS, GROUP_COMMANDS

    parts = [HEAD]
    names = sorted([*COMMANDS, *GROUP_COMMANDS])
    parts += [f"\n## img {name}\n\n```text\n{help_of(name)}\n```\n" for name in names]
    return "".join(parts)


def help_of(name: str) -> str:
    command = [sys.executable, "-m", "img_core", *name.split(), "--help"]
    # Defaults are shown as they are for everybody, not for whoever makes the page.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "IMG_"))}
    environment["HOME"] = "/home/you"
    text = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()


if __name__ == "__main__":
    write_or_check({PAGE: page()})
