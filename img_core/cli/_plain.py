"""Pushes and pulls whose command line says only what, where to and where from are understood without click: a twentieth of a small one.

What has any other flag, or makes no sense, is left to click, which knows all of them and what to say.
"""

from __future__ import annotations

import os

from img_core.cli import COMPLETION_VARIABLE

TYPE_CHECKING = False  # see `img_core.linux.stdout`
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from img_core.cli._settings import Settings

__all__ = ["understood"]

_STATE = ("-s", "--state")
_MOST = {"push": 2, "pull": 1}  #: names behind these commands


def understood(words: Sequence[str]) -> Callable[[], None] | None:
    """Return what does what *words* ask for; None if click has to be asked."""
    state, rest = (words[1], words[2:]) if len(words) > 1 and words[0] in _STATE else (None, words)
    command, names = (rest[0], rest[1:]) if rest else ("", rest)
    if not 1 <= len(names) <= _MOST.get(command, 0) or COMPLETION_VARIABLE in os.environ:
        return None
    if any(word.startswith("-") or not word for word in (*names, *words[1:2])):
        return None
    return lambda: _do(command, state, names)


def _do(command: str, state: str | None, names: Sequence[str]) -> None:
    from img_core.cli import _push_pull
    from img_core.cli._settings import Settings
    from img_core.linux import stdout

    settings: Settings = Settings(state=state)
    stdout.reserve()
    work = _push_pull.push if command == "push" else _push_pull.pull
    work(settings, *names)
