"""Settings are read as the standard library reads them, most without it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from img_core.forms.toml import _plain, read_toml
from img_core.spec.errors import UsageError

ALIASES = '# all of them\n\n[aliases]\n  # Debian\n  "debian" = "docker.io/library/debian"\n\t"a/b" = "quay.io/a#b=c"\nplain-name_1 = ""\n'


@pytest.mark.parametrize(
    "text",
    ["", "# nothing\n#\n", ALIASES, 'a = "b"\n[t]\na="c"\n[u]\n', '"" = "x"', '"a" \t=\t"it\'s"', "[t]\n[u]"],
)
def test_what_is_plain_is_read_as_the_library_does(text: str) -> None:
    assert _plain(text) == tomllib.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        'a = "b" # why',
        "a = 1",
        "a = 'b'",
        'a = "b\\n"',
        'a = """b"""',
        'a.b = "c"',
        '"a".b = "c"',
        'a = "b" "c"',
        'a = = "b"',
        '= "b"',
        'a "b"',
        '"a" "b"',
        '"a" = = "b"',
        "a",
        "[]",
        "[a b]",
        "[a.b]",
        "[[a]]",
        "[a",
        "[ a ]",
        "[a]\n[a]",
        'a = "b"\n[a]',
        'a = "b"\na = "c"',
        'a = "b"\r\n',
        "# \x07",
        "# ä",
        'a = "ä"',
        'a = "b\tc"',
        '[t] # why\na = "b"',
        '\fa = "b"',
    ],
)
def test_everything_else_is_for_the_library(text: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(text.encode())
    plain = _plain(text)
    try:
        expected = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        assert plain is None
        with pytest.raises(UsageError) as told:
            read_toml(str(path))
        assert str(err) in str(told.value)
    else:
        assert plain in (None, expected)
        assert read_toml(str(path)) == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a = " + b"[" * 100_000, "is nested too deeply"),
        (b"a = " + b"{b = " * 100_000, "is nested too deeply"),
        (b'a = "\xe9"', "is not valid TOML: it is no text in UTF-8"),
        (b"a = 1" + b"0" * 5000, "is not valid TOML: "),
    ],
)
def test_what_no_parser_takes_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(f"configuration file {path} {said}")):
        read_toml(str(path))


def test_lists_of_aliases_need_no_parser(tmp_path: Path) -> None:
    """A push reads those that podman brings along; to get ready to parse them took 7 ms."""
    (tmp_path / "shortnames.conf").write_text(ALIASES)
    program = (
        "import sys; from img_core.forms.toml import read_toml\n"
        "print(len(read_toml(sys.argv[1])['aliases']), 'tomllib' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "shortnames.conf")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "3 False\n"
