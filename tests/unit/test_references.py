"""What code and pages refer to is in the repository, or public."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.repository import ROOT, files

#: How documents that somebody has, and readers have not, were named.
DANGLING = re.compile(
    r"""
    (?:^|[\s(`"'])spec/[\w-]+\.md | (?:^|[\s(`"'])research/[\w-]+\.md     # notes beside the repository
    | \b(?:DESIGN|STYLE)(?:\.md\b|\s+section)
    | \b[Nn]otes,?\s+section | Dockerfile\s+notes | \bspec\s+of\s+the\s+frontend
    | §\s?\d
    """,
    re.VERBOSE,
)
#: "section 7" without the name of what it is a section of, in the same sentence.
SECTION = re.compile(r"(?<![.\w])[^.\n]*\b[Ss]ections?\s\d+(?![.\d])[^.\n]*")
PUBLIC = re.compile(r"\b(?:RFC \d+|OCI|POSIX|PKWARE|APPNOTE|GNU|libarchive|man page|\w+\(\d\))")


TEXTS = [path for path in files("*.py", "*.md", "*.toml", "*.sh", "run") if path != Path(__file__)]


def test_no_document_is_named_that_is_not_here() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {hit.group()}" for path in TEXTS for hit in DANGLING.finditer(path.read_text())
    ]
    assert found == []


def test_a_section_is_one_of_something() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {hit.group().strip()}"
        for path in TEXTS
        if path.suffix == ".py"
        for hit in SECTION.finditer(path.read_text())
        if not PUBLIC.search(hit.group())
    ]
    assert found == []


def test_pages_that_are_named_exist() -> None:
    page = re.compile(r"\b(?:docs|contrib|plugins|tests)/[\w/-]+\.(?:md|json)\b")
    named = {hit: path for path in TEXTS for hit in page.findall(path.read_text())}
    assert len(named) > 5
    assert {hit: str(path) for hit, path in named.items() if not (ROOT / hit).is_file()} == {}


@pytest.mark.parametrize("path", files("*.md"), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_how_to_is_found_from_the_first_page() -> None:
    index = (ROOT / "docs/index.md").read_text()
    assert [
        path.name for path in sorted((ROOT / "docs/how-to").glob("*.md")) if f"(how-to/{path.name})" not in index
    ] == []


@pytest.mark.parametrize(
    "text", ["(spec/a-b.md CP8)", "see DESIGN section 9", "rows of the Dockerfile notes", "STYLE.md says", "(§21 #3)"]
)
def test_dangling_names_are_found(text: str) -> None:
    assert DANGLING.search(text)


@pytest.mark.parametrize(
    "page", ["CONTRIBUTING.md", *(str(path.relative_to(ROOT)) for path in files("*.md") if "explanation" in path.parts)]
)
def test_files_that_a_page_names_exist(page: str) -> None:
    """A path in backticks is one from the top of the repository."""
    named = re.findall(
        r"`([\w.-]+(?:/[\w.-]+)+\.py|(?:img_core|plugins|tests|contrib)/[\w./-]+)`", (ROOT / page).read_text()
    )
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_walks_name_many_files() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    assert len(set(re.findall(r"`(?:img_core|plugins)/[\w/]+[.]py`", page))) > 35
