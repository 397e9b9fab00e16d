"""The commands that stand in our documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["commands_of", "plugins_of"]

_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: A whole plugin of one file; its first line says what the file is called.
_PLUGIN = re.compile(r"^```python\n# (\w+-[\w-]+\.py)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_HERE = re.compile(r"<<'?(\w+)'?")
#: A command within a sentence or a table that is complete: it has an option and nothing to be filled in.
_INLINE = re.compile(r"`(img [^`]* --?[a-z][^`]*)`")
_PLACEHOLDER = re.compile(r"…|\b(DIR|DIRECTORY|FILE|IMAGE|KIND|NAME|PATH)\b")


def commands_of(page: Path) -> Iterator[str]:
    """Give the commands of a page in their order: those after ``$`` in its console blocks, and complete ones in its text."""
    text = page.read_text()
    found = [(match.start(), command) for match in _BLOCK.finditer(text) for command in _commands(match[1])]
    prose = _BLOCK.sub(lambda match: " " * len(match[0]), text)
    found += [(match.start(), match[1]) for match in _INLINE.finditer(prose) if not _PLACEHOLDER.search(match[1])]
    return (command for _, command in sorted(found, key=lambda item: item[0]))


def plugins_of(page: Path) -> dict[str, str]:
    """Return the plugins of one file that a page prints, by the names of their files."""
    return {match[1]: match[2] for match in _PLUGIN.finditer(page.read_text())}


def _commands(block: str) -> Iterator[str]:
    lines = iter(block.splitlines())
    for line in lines:
        if not line.startswith("$ "):
            continue  # what a command prints
        command = line[2:]
        while command.endswith("\\"):
            command += "\n" + next(lines)
        if here := _HERE.search(command):
            while not command.endswith(f"\n{here[1]}"):
                command += "\n" + next(lines)
        yield command
