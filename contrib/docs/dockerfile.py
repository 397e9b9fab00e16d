"""Write the tables of flags and of mount options in docs/reference/dockerfile.md from their declarations: run it after changing those.

With ``--check`` it only tells whether the page is up to date.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pages import write_or_check

from img_frontend_dockerfile.syntax.flags import FLAGS, Flag
from img_frontend_dockerfile.syntax.mounts import MOUNT_OPTIONS, TYPES, MountOption

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/dockerfile.md"
_KINDS = {"text": "`--{}=…`", "list": "`--{}=…` (any number)", "boolean": "`--{}[=true\\|false]`"}


def flags() -> Iterable[str]:
    """Give the rows of the table of flags."""
    yield "| Flag | Of | |"
    yield "|---|---|---|"
    for flag in FLAGS:
        yield f"| {_written(flag)} | {', '.join(flag.instructions)} | {flag.about} |"


def _written(flag: Flag) -> str:
    return _KINDS[flag.kind].format(flag.name)


def mount_options() -> Iterable[str]:
    """Give the rows of the table of mount options."""
    yield "| Key | Of | |"
    yield "|---|---|---|"
    for name, option in MOUNT_OPTIONS.items():
        names = ", ".join(f"`{word}`" for word in (name, *option.synonyms))
        types = "all" if [*option.defaults] == [*TYPES] else ", ".join(f"`{kind}`" for kind in option.defaults)
        yield f"| {names} | {types} | {option.about}{_defaults(option)} |"


def _defaults(option: MountOption) -> str:
    if option.planned:
        return ""
    shown = {kind: _shown(value, octal=option.about.endswith("in base 8")) for kind, value in option.defaults.items()}
    if len(set(shown.values())) == 1:
        return f" (default: `{next(iter(shown.values()))}`)"
    return f" (default: {', '.join(f'`{value}` for `{kind}`' for kind, value in shown.items())})"


def _shown(value: object, *, octal: bool) -> str:
    return f"{value:04o}" if octal and isinstance(value, int) else str(value).lower()


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, rows in (("flags", flags()), ("mount options", mount_options())):
        begin, end = (
            f"<!-- {name}: made by contrib/docs/dockerfile.py; a test keeps them up to date -->",
            "<!-- end -->",
        )
        table = "\n".join([begin, "", *rows, "", end])
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        text, found = re.subn(pattern, lambda _match, table=table: table, text, flags=re.DOTALL)
        assert found == 1, name
    write_or_check({PAGE: text})


if __name__ == "__main__":
    main()
