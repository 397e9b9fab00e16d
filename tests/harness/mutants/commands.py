"""Commands with one thing wrong."""

from __future__ import annotations

from typing import Any, ClassVar

import click

from harness.mutants import Mutant
from img_core.testing.contracts.command import CommandContract

__all__ = ["COMMANDS"]


class Suite(CommandContract):
    """The suite of a command and its word, which are given together."""

    holder = "given"
    given: ClassVar[tuple[str, click.Command]]

    @property
    def word(self) -> str:  # type: ignore[override]  # a mutant may have the wrong one
        return self.given[0]

    @property
    def command(self) -> click.Command:  # type: ignore[override]  # as above
        return self.given[1]


def greet(cls: type[click.Command] = click.Command, **changes: Any) -> click.Command:
    """Return a good command, or one with *changes*."""
    option = click.Option(["--loud"], is_flag=True, help="say it in capitals")
    facts: dict[str, Any] = {"callback": lambda loud: None, "params": [option], "help": "Greet somebody."}
    return cls("greet", **{**facts, **changes})


class Silent(click.Command):
    def get_help(self, ctx: click.Context) -> str:
        return ""


class Buggy(click.Command):
    def get_help(self, ctx: click.Context) -> str:
        raise ValueError("no help today")


class Failing(click.Command):
    def get_help(self, ctx: click.Context) -> str:
        ctx.exit(1)


class Vague(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError:
            raise click.UsageError("something is wrong") from None


class Mild(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as err:
            raise click.ClickException(err.message) from err


def command(claim: str, made: click.Command, word: str = "greet") -> Mutant:
    return Mutant(Suite, (word, made), ("greet", greet()), claim)


COMMANDS = {
    "has the word of another": command("test_nobody_else", greet(), "build"),
    "has capitals": command("test_nobody_else", greet(), "Greet"),
    "has two words": command("test_nobody_else", greet(), "greet all"),
    "has a word that moves the cursor": command("test_nobody_else", greet(), "greet\x1b[2J"),
    "says nothing of itself": command("test_it_says", greet(help="")),
    "explains no flag": command("test_it_explains", greet(params=[click.Option(["--loud"], is_flag=True)])),
    "has no help": command("test_help_is", greet(add_help_option=False)),
    "has an empty help": command("test_help_is", greet(Silent)),
    "has a bug in its help": command("test_help_is", greet(Buggy)),
    "fails to help": command("test_help_is", greet(Failing)),
    "takes any flag": command("test_an_unknown_flag", greet(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})),
    "names no unknown flag": command("test_an_unknown_flag", greet(Vague)),
    "has another status for mistakes": command("test_an_unknown_flag", greet(Mild)),
}  # fmt: skip
