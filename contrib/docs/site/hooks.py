"""What the site changes of the documents: their order, and links to files of the checkout that are no pages."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
ORDER = ("index", "tutorial", "how-to", "reference", "explanation")
#: ``[text](../../contrib/x)``; a page that lies deeper has more dots.
_LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(#[^)]*)?\)")
_FENCE = re.compile(r"^(```|~~~)", re.MULTILINE)


def on_page_markdown(markdown: str, *, page: Any, **_given: object) -> str:  # Any: mkdocs
    """Turn links to files outside the documents into their names, or into addresses where IMG_SOURCE_URL says where the source is."""
    here = (ROOT / "docs" / page.file.src_uri).parent

    def plain(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(here / match[2]))
        if target.is_relative_to(ROOT / "docs"):
            return match[0]
        if not target.exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {match[2]}, which does not exist")
        base, name = os.environ.get("IMG_SOURCE_URL", ""), target.relative_to(ROOT).as_posix()
        return f"[{match[1]}]({base.rstrip('/')}/{name})" if base else f"{match[1]} (`{name}` of the source)"

    parts = _FENCE.split(markdown)  # text, fence, code, fence, text…
    return "".join(_LINK.sub(plain, part) if index % 4 == 0 else part for index, part in enumerate(parts))


def on_nav(nav: Any, **_given: object) -> Any:  # Any: mkdocs
    """Put the sections in the order in which people need them."""

    def place(item: Any) -> int:  # Any: mkdocs
        word = (item.title or "index").lower().replace(" ", "-") if item.is_section else "index"
        return ORDER.index(word) if word in ORDER else len(ORDER)

    nav.items.sort(key=place)
    return nav
