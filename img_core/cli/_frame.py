"""The frame around all commands: lazy import of commands, help pages, and the words of usage errors.

Every command line of the original img works, and the forms it refused by accident (``img -d CMD``) do, too.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from img_core.cli import COMPLETION_VARIABLE
from img_core.cli._base import (
    CONTEXT,
    Command,
    CommandGroup,
    GoFlags,
    global_options,
    help_row,
    remaining_words,
    settings_of,
    with_global_flags,
)
from img_core.cli._commands import ALIASES, COMMANDS, GROUP_COMMANDS, GROUPS, HELP
from img_core.cli._help import help_page, usage_block
from img_core.cli._output import echo, warn
from img_core.cli._settings import Settings
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DESCRIPTION", "RootCommand", "run"]

DESCRIPTION = "Standalone, daemonless, unprivileged Dockerfile and OCI compatible container image builder"


def run(words: list[str]) -> None:
    """Run one command line. Raises what the command raises; mistakes in the command line as UsageError."""
    root = RootCommand()
    if COMPLETION_VARIABLE in os.environ:
        from img_core.cli.completion.shells import answer

        echo(answer(root), end="")
        return
    try:
        # Not `main`: it turns the interrupts of all signals into one, and writes to stderr of its own.
        with root.make_context("img", words) as context:
            root.invoke(context)
    except click.exceptions.Exit as err:
        raise SystemExit(err.exit_code) from None
    except click.ClickException as err:
        raise _usage_error(err) from None


class UnknownCommand(UsageError):
    """A word that is no command; *epilogue* is the overview, shown below the message."""

    def __init__(self, message: str, overview: str, hint: str | None) -> None:
        super().__init__(message, hint=hint)
        self.epilogue = f"See 'img --help'\n{overview}"


class RootCommand(GoFlags, click.Group):
    """``img`` itself. Its commands are imported one at a time, when they run."""

    def __init__(self) -> None:
        version = click.Option(["-v", "--version"], is_flag=True, help="print version information and quit")
        super().__init__(
            name="img",
            params=[*global_options(), version],
            invoke_without_command=True,
            context_settings={**CONTEXT, "obj": Settings()},
        )

    def invoke(self, ctx: click.Context) -> Any:  # Any: click
        """Run the command, or show what ``img`` alone shows."""
        words = remaining_words(ctx)
        if ctx.params.get("version"):
            _print_version(words)
        elif words:
            super().invoke(ctx)
        else:
            echo(ctx.get_help())

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, those of plugins included."""
        return sorted({*COMMANDS, *settings_of(ctx).plugins().names("command")})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command: ours by the table, others from the plugin group ``img.commands``."""
        if cmd_name == HELP:
            return _help_command(self)
        if cmd_name in GROUPS:
            return AliasGroup(cmd_name)
        if ALIASES.get(cmd_name, cmd_name) not in COMMANDS:
            return self._plugin_command(ctx, cmd_name)
        return _import_command(cmd_name, ALIASES.get(cmd_name, cmd_name))

    @staticmethod
    def _plugin_command(ctx: click.Context, name: str) -> click.Command | None:
        plugins = settings_of(ctx).plugins()
        if name not in plugins.names("command"):
            return None
        command: click.Command = plugins.driver("command", name)
        return with_global_flags(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that *args* start with; for an unknown one the overview is shown on standard error."""
        command = self.get_command(ctx, args[0])
        if command is None:
            message = f"img: '{args[0]}' is not an img command."
            raise UnknownCommand(message, self.get_help(ctx), self.hint(ctx, args[0]))
        return args[0], command, args[1:]

    def hint(self, ctx: click.Context, word: str) -> str | None:
        """Return what somebody may have meant who typed *word* for a command."""
        from img_core.cli._suggest import command_hint

        return command_hint(word, [*self.list_commands(ctx), *ALIASES, *GROUPS, "help"], "img")

    def get_help(self, ctx: click.Context) -> str:
        """Return the overview."""
        flags = usage_block([*self.params, help_row(self, ctx)])
        return help_page(
            "img",
            DESCRIPTION,
            "img [OPTIONS] COMMAND [ARG...]",
            [("Flags", flags), ("Commands", self._command_rows(ctx))],
            'Use "img [command] --help" for more information about a command.',
        )

    @staticmethod
    def _command_rows(ctx: click.Context) -> Sequence[tuple[str, str]]:
        rows = {name: entry.short for name, entry in COMMANDS.items()}
        rows["help"] = "Help about any command"
        try:
            added = settings_of(ctx).plugins().names("command")
        except UsageError as err:  # a broken configuration must not take the help away
            warn(err.message)
            added = []
        rows.update({name: "(added by a plugin)" for name in added if name not in rows})
        return sorted(rows.items())


class AliasGroup(CommandGroup):
    """A group of docker's, e.g. ``img image ls``: other words for our commands."""

    def __init__(self, name: str) -> None:
        super().__init__(name, help="The same commands, as docker calls them.")
        self._words = GROUPS[name]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the words of the group."""
        return sorted(self._words)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command behind a word."""
        return _import_command(cmd_name, self._words[cmd_name]) if cmd_name in self._words else None

    def get_help(self, ctx: click.Context) -> str:
        """Return the overview without importing a command."""
        rows = [(word, {**COMMANDS, **GROUP_COMMANDS}[name].short) for word, name in sorted(self._words.items())]
        blocks = [("Commands", rows), ("Global Flags", usage_block(global_options()))]
        return help_page(
            self.name or "", "The same commands, as docker calls them", f"{ctx.command_path} COMMAND", blocks
        )


def _import_command(word: str, name: str) -> click.Command:
    entry = {**COMMANDS, **GROUP_COMMANDS}[name]
    command: click.Command = import_module(entry.module).command
    command.name, command.short_help = word, entry.short
    return command


def _print_version(words: list[str]) -> None:
    from img_core.cli._version import version_line

    # `img -v CMD` of the original: no word "version", no newline
    echo(version_line().replace(" version ", " ", 1), end="") if words else echo(version_line())


def _help_command(root: RootCommand) -> click.Command:
    @click.command("help", cls=Command, short_help="Help about any command")
    @click.argument("words", nargs=-1, metavar="[COMMAND]")
    @click.pass_context
    def show(context: click.Context, words: tuple[str, ...]) -> None:
        top = context.find_root()
        found, parent = _walk(root, top, words)
        if found is None:
            hint = root.hint(top, words[0]) if len(words) == 1 else None
            raise UnknownCommand(f"Unknown help topic [`{' '.join(words)}`]", root.get_help(top), hint)
        echo(found.get_help(parent))

    return show


def _walk(root: RootCommand, top: click.Context, words: Sequence[str]) -> tuple[click.Command | None, click.Context]:
    """Follow *words* from the root to a command; words behind a command without commands are ignored."""
    command: click.Command | None = root
    context = top
    for word in words:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(context, word)
        if command is None:
            break
        context = click.Context(command, info_name=word, parent=context)
    return command, context


def _usage_error(err: click.ClickException) -> UsageError:
    """Say click's complaint in img's words."""
    if isinstance(err, click.NoSuchOption):
        short = not err.option_name.startswith("--")
        text = f"unknown shorthand flag: `{err.option_name}`" if short else f"unknown flag: {err.option_name}"
        from img_core.cli._suggest import flag_hint

        return UsageError(text, hint=flag_hint(err.option_name, err.ctx))
    return UsageError(err.format_message().rstrip(".").replace("\n", " "))
