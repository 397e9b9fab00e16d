"""Write the manual pages and the completion scripts into a directory: ``manual.py DIRECTORY``. The wheel is built with them.

They are laid out as they are installed below a prefix: ``share/man/man1/img-build.1``, ``share/bash-completion/completions/img``, ….
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path

import click

MANUAL = "share/man/man1"
COMPLETIONS = {
    "bash": "share/bash-completion/completions/img",
    "fish": "share/fish/vendor_completions.d/img.fish",
    "zsh": "share/zsh/site-functions/_img",
}

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]  # when a wheel is built nothing of ours is installed

#: Defaults are shown as they are for everybody, not for whoever makes the pages.
os.environ.update({"HOME": "/home/you"})
for _name in [name for name in os.environ if name.startswith(("XDG_", "IMG_"))]:
    del os.environ[_name]

STATUS = {
    "0": "done",
    "1": "failed, for a reason that is none of the others",
    "2": "the command line or the configuration is wrong",
    "3": "the Dockerfile is wrong",
    "4": "a step failed",
    "5": "a registry refused our identity, or a credential store failed",
    "6": "a registry or another remote source failed",
    "7": "the host lacks something",
    "125": "a bug in img",
    "130, 143": "stopped by Ctrl-C, by SIGTERM",
}
ENVIRONMENT = {
    "XDG_DATA_HOME": "the state directory is img in there, unless --state names another (default ~/.local/share)",
    "XDG_CONFIG_HOME": "configuration and one's own registries are in img in there (default ~/.config)",
    "IMG_DISABLED_PLUGINS": "plugins that are not loaded, as KIND:NAME, separated by commas",
    "IMG_IDMAP": "full or single: how user ids are mapped",
    "IMG_NETWORK": "the network of steps, as --network of img-build(1)",
    "IMG_TRACE": "a file that gets a trace of the command, as --trace; %p in its name becomes the process id",
    "DOCKER_CONFIG, REGISTRY_AUTH_FILE": "where credentials are",
    "SOURCE_DATE_EPOCH": "the latest time, in seconds since 1970, that results may show",
    "HTTP_PROXY, HTTPS_PROXY, NO_PROXY": "how servers are reached",
}


def pages() -> dict[str, str]:
    """Return all files by where they are installed."""
    from img_core.cli._commands import COMMANDS
    from img_core.cli.completion.shells import script

    files = {f"{MANUAL}/img.1": overview()}
    for name, entry in COMMANDS.items():
        command: click.Command = import_module(entry.module).command
        files[f"{MANUAL}/img-{name}.1"] = page(name, entry.short, command)
    return {**files, **{path: script(shell) for shell, path in COMPLETIONS.items()}}


def overview() -> str:
    from img_core.cli._base import global_options
    from img_core.cli._commands import COMMANDS
    from img_core.cli._frame import DESCRIPTION

    return "\n".join(
        [
            *head("img", DESCRIPTION),
            ".SH SYNOPSIS", ".B img", "[OPTIONS] COMMAND [ARG...]",
            ".SH DESCRIPTION",
            "img builds container images from Dockerfiles as an ordinary user: without a daemon, without root, without a set-up.",
            "Standard output is data, standard error is talk.",
            ".SH COMMANDS",
            *(line for name, entry in COMMANDS.items() for line in item(f"img-{name}(1)", entry.short)),
            ".SH OPTIONS", *options(global_options()),
            ".SH EXIT STATUS", *(line for code, text in STATUS.items() for line in item(code, text)),
            ".SH ENVIRONMENT", *(line for name, text in ENVIRONMENT.items() for line in item(name, text)),
            ".SH FILES",
            *item("~/.config/img/config.toml, /etc/img/config.toml", "configuration: which plugins are used, and their options"),
            *item("~/.config/img/registries.toml, /etc/img/registries.toml", "mirrors, certificates, insecure registries"),
            *item("~/.local/share/img", "the state directory: images and build cache"),
            ".SH SEE ALSO", ", ".join(escaped(f"img-{name}(1)") for name in COMMANDS),
            "",
        ]
    )  # fmt: skip


def page(name: str, short: str, command: click.Command) -> str:
    """Return the page of one command; of a group, with all that is below it."""
    from img_core.cli._base import global_options

    below = sorted(command.commands.items()) if isinstance(command, click.Group) else []
    own = {option.name for option in global_options()}
    lines = [*head(f"img-{name}", short), ".SH SYNOPSIS"]
    for words, each in [(f"img {name} {word}", each) for word, each in below] or [(f"img {name}", command)]:
        arguments = " ".join(
            str(p.metavar or p.human_readable_name) for p in each.params if isinstance(p, click.Argument)
        )
        lines += [] if lines[-1].startswith(".SH") else [".br"]
        lines += [f".B {escaped(words)}", escaped(f"[OPTIONS] {arguments}".strip())]
    lines += [".SH DESCRIPTION", sentence(command.help or short)]
    for word, each in below or [("", command)]:
        if word:
            lines += [f".SS img {name} {word}", sentence(each.help or "")]
        found = [p for p in each.params if isinstance(p, click.Option) and not p.hidden and p.name not in own]
        lines += [".SH OPTIONS"] if found and not word else []
        lines += options(found)
        lines += [".PP", sentence(each.epilog)] if each.epilog else []
    lines += [".SH GLOBAL OPTIONS", *options(global_options()), ".SH SEE ALSO", ".BR img (1)", ""]
    return "\n".join(lines)


def head(name: str, short: str) -> list[str]:
    return [
        f'.TH {escaped(name.upper())} 1 "" "img" "img manual"',
        ".nh",
        ".SH NAME",
        f"{escaped(name)} \\- {escaped(short[:1].lower() + short[1:])}",
    ]


def options(found: Iterable[click.Parameter]) -> Iterator[str]:
    from img_core.cli._help import usage_block

    for names, text in usage_block(found):
        yield from item(names.strip(), text)


def item(term: str, text: str) -> list[str]:
    return [".TP", f".B {escaped(term)}", sentence(text)]


def sentence(text: str) -> str:
    return escaped(" ".join(text.split()))


def escaped(text: str) -> str:
    """Return *text* as roff: hyphens that are minus signs, and no line that begins with a control character."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return f"\\&{text}" if text[:1] in ".'" else text


def main() -> None:
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    for name, text in pages().items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


if __name__ == "__main__":
    main()
