"""What every command of a plugin promises. Subclass `CommandContract` and name the click command and its word::

class TestMine(CommandContract):
    word = "greet"
    command = greet
"""

# ruff: noqa: D102 - a test's name is its claim
from __future__ import annotations

from typing import ClassVar

import click
import pytest
from click.testing import CliRunner

from img_core.cli._commands import is_taken

__all__ = ["CommandContract"]


class CommandContract:
    """The promises of what `img_command` returns, each as a test."""

    word: ClassVar[str]
    command: ClassVar[click.Command]

    def test_nobody_else_has_its_word(self) -> None:
        assert not is_taken(self.word), f"`img {self.word}` means something else"
        assert self.word == self.word.lower()
        assert self.word.isprintable()
        assert " " not in self.word

    def test_it_says_in_a_line_what_it_does(self) -> None:
        assert self.command.get_short_help_str(200).strip(), "its help begins with the first sentence of its docstring"

    def test_it_explains_its_flags(self) -> None:
        flags = [item for item in self.command.params if isinstance(item, click.Option) and not item.hidden]
        assert [flag.name for flag in flags if not flag.help] == []

    @pytest.mark.parametrize("flag", ["--help"])
    def test_help_is_data_and_a_success(self, flag: str) -> None:
        done = CliRunner().invoke(self.command, [flag], prog_name=f"img {self.word}")
        assert (done.exit_code, done.exception) == (0, None)
        assert self.word in done.output

    def test_an_unknown_flag_is_a_mistake_of_the_user(self) -> None:
        done = CliRunner().invoke(self.command, ["--no-such-flag-anywhere"])
        assert done.exit_code == 2
        assert "no-such-flag-anywhere" in done.output
