"""Host names are encoded as Python encodes them, whether or not it had to load its tables for that."""

from __future__ import annotations

import codecs
import subprocess
import sys

import pytest

NAMES = [
    "registry.example.org",
    "Example.ORG.",
    "127.0.0.1",
    "::1",
    "",
    "a" * 63 + ".org",
    "a" * 64 + ".org",
    "org." + "a" * 64,
    "a..b",
    ".a",
    "bücher.example",
    "faß.de",
    "例え.テスト",
    "a。b",
    "\ud800.org",
]


def told_by(prepared: bool, names: list[str]) -> list[str]:
    """Return what a process of its own makes of *names*, and of errors their kind."""
    prepare = "from img_core.net import _hostnames; _hostnames.prepare()" if prepared else ""
    program = f"""
import sys
{prepare}
for name in {names!a}:
    try:
        print(ascii(name.encode("idna")))
    except UnicodeError:
        print("refused")
print("encodings.idna" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def test_names_are_encoded_as_python_does() -> None:
    *ours, _ = told_by(True, NAMES)
    *pythons, _ = told_by(False, NAMES)
    assert ours == pythons
    assert "refused" in ours


@pytest.mark.parametrize(("name", "loaded"), [("registry.example.org", "False"), ("bücher.example", "True")])
def test_tables_are_loaded_for_names_that_need_them(name: str, loaded: str) -> None:
    assert told_by(True, [name])[-1] == loaded


def test_all_of_the_codec_is_there() -> None:
    program = """
from img_core.net import _hostnames
_hostnames.prepare()
import codecs, io
assert b"xn--bcher-kva.example".decode("idna") == "b\\xfccher.example"
assert codecs.getincrementalencoder("idna")().encode("b\\xfccher.x", True) == b"xn--bcher-kva.x"
assert codecs.getincrementaldecoder("idna")().decode(b"xn--bcher-kva.x", True) == "b\\xfccher.x"
assert codecs.getreader("idna")(io.BytesIO(b"a.x")).read() == "a.x"
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert codecs.lookup("idna").name == "idna"
