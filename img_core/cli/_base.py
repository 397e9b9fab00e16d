"""What commands are made of: the global flags on every command, the flag spellings of Go, and the layout of help pages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from img_core.cli._help import help_page, usage_block
from img_core.cli._output import echo
from img_core.cli._settings import AUTO_BACKEND, Settings
from img_core.config import DEFAULT_ORDER, default_state_directory
from img_core.forms.words import truth
from img_core.linux import stdout
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CONTEXT",
    "Command",
    "CommandGroup",
    "GoFlags",
    "OnByDefault",
    "OptionalValue",
    "global_options",
    "help_row",
    "refuse_more",
    "remaining_words",
    "settings_of",
    "with_global_flags",
]

CONTEXT = {"help_option_names": ["-h", "--help"]}


def settings_of(context: click.Context) -> Settings:
    """Return the settings of the running command line."""
    return context.ensure_object(Settings)


def refuse_more(context: click.Context, words: Sequence[str], most: int, expected: str) -> None:
    """Refuse *words* if they are more than *most*: nothing that somebody typed goes unheard. Raises UsageError."""
    if len(words) > most:
        from img_core.spec.text import show

        more = ", ".join(f"`{show(word)}`" for word in words[most:])
        raise UsageError(f"{context.info_name} expects {expected}, found {len(words)}", hint=f"too much: {more}")


def global_options() -> list[click.Parameter]:
    """Return the flags that are accepted before and after every command."""
    backends = " ".join([AUTO_BACKEND, *DEFAULT_ORDER["snapshotter"]])
    return [
        _global(["-b", "--backend"], help=f"backend for snapshots ([{backends}])", show_default=AUTO_BACKEND),
        _global(["-d", "--debug"], help="enable debug logging", is_flag=True),
        _global(
            ["-s", "--state"],
            help="directory to hold the global state",
            show_default=default_state_directory(os.environ),
        ),
        _global(["--plugin"], help="load a plugin from a file, KIND-NAME.py", multiple=True),
        _global(["--no-plugin"], help="do not load a plugin (kind:name, e.g. executor:runc)", multiple=True),
        _global(["--trace"], metavar="FILE", help="write what took how long to a file, for https://ui.perfetto.dev"),
    ]


def with_global_flags(command: click.Command) -> click.Command:
    """Let *command*, which is of a plugin, take the global flags behind its word, too, but for spellings that are its own."""
    own = {spelling for item in command.params for spelling in item.opts}
    command.params = [*command.params, *(item for item in global_options() if own.isdisjoint(item.opts))]
    return command


def _global(names: list[str], **attributes: Any) -> click.Option:  # Any: click
    return click.Option(names, expose_value=False, callback=_take, **attributes)


def _take(context: click.Context, parameter: click.Parameter, value: Any) -> None:  # Any: depends on the flag
    settings = settings_of(context)
    match parameter.name:
        case "backend" if value is not None:
            settings.backend = value
        case "state" if value is not None:
            settings.state = value
        case "debug" if value:
            settings.enable_debug()
        case "plugin":
            settings.plugin_files += value
        case "no_plugin":
            settings.no_plugins += value
        case "trace" if value is not None:
            from img_core.cli._trace import write_to

            write_to(value)


class OnByDefault(click.Option):
    """A hidden flag of another tool that is on unless ``=false`` is said: that means our flag *off*, or is refused with *hint*.

    It never reaches the command.
    """

    def __init__(self, names: list[str], *, off: str = "", hint: str = "") -> None:
        super().__init__(names, is_flag=True, hidden=True, expose_value=False)
        self._off = off
        self._hint = hint

    def words(self, word: str, value: str, *, given: bool) -> list[str]:
        """Return what stands for *word* (``--flag=VALUE``). Raises UsageError."""
        if not given or truth(value):
            return []
        if truth(value) is None:
            return [word]
        if not self._off:
            raise UsageError(f"`{word}` is not supported", hint=self._hint)
        return [self._off]


class OptionalValue(click.Option):
    """A flag that may have a value, but only behind ``=``: alone it is an empty text, ``=false`` is as if it were not there."""

    def words(self, value: str) -> list[str]:
        """Return what stands for ``--flag`` or ``--flag=VALUE``."""
        if truth(value) is False and value:
            return []
        return [_long(self), "" if truth(value) else value]


class GoFlags(click.Command):
    """Accepts the spellings of Go's flag package: ``-d=true``, ``--no-cache=false``, ``-s=DIR``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse *args*."""
        return super().parse_args(ctx, without_go_spellings(self.get_params(ctx), args))

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return the flag ``--help``; a page that cannot be written is an error in our words."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option


def _show_help(context: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:
    if is_asked and not context.resilient_parsing:
        echo(context.get_help())
        context.exit()


def without_go_spellings(parameters: Sequence[click.Parameter], words: Sequence[str]) -> list[str]:
    """Return *words* in click's spelling. Values of options are left alone, whatever they look like."""
    options = {name: option for option in parameters if isinstance(option, click.Option) for name in option.opts}
    result: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            return [*result, word, *rest]
        name, equals, value = word.partition("=")
        option = options.get(name)
        if option is None:
            result.append(word)
        elif isinstance(option, OnByDefault):
            result += option.words(word, value, given=bool(equals))
        elif isinstance(option, OptionalValue):
            result += option.words(value)
        elif option.is_flag:
            result += _flag_words(word, name, value, given=bool(equals))
        elif equals:
            result += [_long(option), value]
        else:
            result.append(_long(option))
            following = next(rest, None)
            result += [] if following is None else [following]
    return result


def _long(option: click.Option) -> str:
    """Return the long name: for a short one click first looks for long ones that are like it (8 ms)."""
    return next((name for name in option.opts if name.startswith("--")), option.opts[0])


def _flag_words(word: str, name: str, value: str, *, given: bool) -> list[str]:
    """Return ``--flag`` or nothing for ``--flag=BOOLEAN``: the flag is off by default."""
    if not given or truth(value):
        return [name]
    return [] if truth(value) is False else [word]


class Command(GoFlags):
    """A command of img: it accepts the global flags as well."""

    def __init__(self, *args: Any, **attributes: Any) -> None:  # Any: click
        attributes.setdefault("context_settings", CONTEXT)
        super().__init__(*args, **attributes)
        self._own = list(self.params)
        self.params += global_options()

    def invoke(self, ctx: click.Context) -> Any:  # Any: click
        """Run it; what a plugin prints meanwhile is not mixed with the data."""
        stdout.reserve()
        return super().invoke(ctx)

    def get_help(self, ctx: click.Context) -> str:
        """Return the help page in img's layout."""
        arguments = [
            str(item.metavar or item.human_readable_name) for item in self._own if isinstance(item, click.Argument)
        ]
        usage = " ".join([ctx.command_path, "[OPTIONS]", *arguments])
        flags = usage_block([*self._own, help_row(self, ctx)])
        blocks = [("Flags", flags), ("Global Flags", usage_block(global_options()))]
        return help_page(_title(ctx), self.get_short_help_str(200), usage, blocks, self.epilog or "")


class CommandGroup(GoFlags, click.Group):
    """A command with commands of its own, e.g. ``img plugins``; alone it shows its help."""

    command_class = Command

    def __init__(self, *args: Any, **attributes: Any) -> None:  # Any: click
        attributes.setdefault("context_settings", CONTEXT)
        attributes["invoke_without_command"] = True
        super().__init__(*args, **attributes)
        self.params += global_options()

    def invoke(self, ctx: click.Context) -> Any:  # Any: click
        """Run the command that was named, or show the help."""
        if remaining_words(ctx):
            return super().invoke(ctx)
        echo(ctx.get_help())
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that *args* start with."""
        command = self.get_command(ctx, args[0])
        if command is None:
            from img_core.cli._suggest import command_hint

            near = command_hint(args[0], self.list_commands(ctx), ctx.command_path)
            raise UsageError(
                f"unknown command `{ctx.command_path} {args[0]}`", hint=near or f"see `{ctx.command_path} --help`"
            )
        return args[0], command, args[1:]

    def get_help(self, ctx: click.Context) -> str:
        """Return the help page in img's layout."""
        rows = [(name, command.get_short_help_str(200)) for name, command in sorted(self.commands.items())]
        blocks = [("Commands", rows), ("Global Flags", usage_block(global_options()))]
        return help_page(_title(ctx), self.get_short_help_str(200), f"{ctx.command_path} COMMAND", blocks)


def remaining_words(context: click.Context) -> list[str]:
    """Return the words behind the flags of a group: a command and what belongs to it."""
    # click 8 keeps the first word apart and has no public name for it; click 9 keeps all in `args`.
    return [*getattr(context, "_protected_args", ()), *context.args]


def _title(context: click.Context) -> str:
    return context.command_path.removeprefix("img ")


def help_row(command: click.Command, context: click.Context) -> click.Parameter:
    """Return the flag ``--help`` of *command* with our words."""
    flag = command.get_help_option(context)
    assert flag is not None, "CONTEXT names the flags"
    flag.help = f"help for {command.name}"
    return flag
