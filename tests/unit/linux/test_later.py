"""Stand-ins for modules: not imported by what imports them, there when they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from img_core.linux.later import Later, standing_in

_LIBRARY = """\
import sys
from img_core.net import _library
library = _library.load()
"""
_NET = "import sys, img_core.net.hosts, urllib.parse\n"
_CLICK = "import sys; from img_core.cli import _import_lightly; _import_lightly('click'); import click\n"


def fresh(code: str) -> str:
    """Return what *code* prints in an interpreter of its own."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_a_stand_in_is_imported_with_its_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "seldom_used.py").write_text("class Base: pass\nANSWER = 42\n")
    (tmp_path / "its_user.py").write_text(
        "import seldom_used\nclass User(seldom_used.Base): pass\ndef answer(): return seldom_used.ANSWER\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    later = Later("seldom_used", placeholders=True)
    with standing_in([later]):
        import its_user  # type: ignore[import-not-found]

    assert (later.asked, "seldom_used" in sys.modules) == (["Base"], False)
    assert its_user.answer() == 42
    assert "seldom_used" in sys.modules, "the real one"
    assert not hasattr(later, "no_such_name")


def test_what_is_asked_of_it_at_once_is_the_real_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of a library may want a name while it is imported."""
    (tmp_path / "wanted_at_once.py").write_text("ANSWER = 42\n")
    (tmp_path / "its_impatient_user.py").write_text("from wanted_at_once import ANSWER\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with standing_in([Later("wanted_at_once")]):
        import its_impatient_user  # type: ignore[import-not-found]
    assert its_impatient_user.ANSWER == 42
    assert not isinstance(sys.modules["wanted_at_once"], Later)


def test_what_is_imported_already_stays() -> None:
    import json

    with standing_in([Later("json", {"loads": None})]):
        import json as again
    assert again is json


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (_LIBRARY + "print({'logging', 'httpcore._async'} & set(sys.modules))", "set()"),
        (_CLICK + "print({'uuid', 'linecache', 'tokenize', 'ast', 'dis', 'gettext', 'locale'} & set(sys.modules))", "set()"),
        (_CLICK + "import inspect, textwrap; print(inspect.getsource(textwrap.TextWrapper)[:17])", "class TextWrapper"),
        (_CLICK + "import inspect, dis; print({'CO_' + n: f for f, n in dis.COMPILER_FLAG_NAMES.items()} =="
         "{n: f for n, f in vars(inspect).items() if n.startswith('CO_')})", "True"),
        (_CLICK + "import gettext; print(gettext.translation.__module__, click.exceptions.ngettext('a', 'b', 2))", "gettext b"),
        (_NET + "print('ipaddress' in sys.modules, urllib.parse.urlsplit('http://[::1]:5/').port)", "False 5"),
        (_NET + "from img_core.net.hosts import is_loopback; print(is_loopback('127.0.0.1'), 'ipaddress' in sys.modules)", "True False"),
        (_CLICK + "import inspect, textwrap; print(inspect.getsource(textwrap.dedent)[:10])", "def dedent"),
        (_CLICK + "import inspect; print(inspect.signature(print).parameters['sep'].default == ' ')", "True"),
        (_LIBRARY + "print(library.AsyncConnectionPool.__module__)", "httpcore._async.connection_pool"),
        (_LIBRARY + "from httpcore import AsyncHTTPProxy as a; print(a.__name__)", "AsyncHTTPProxy"),
        (_LIBRARY + "import httpx; print(httpx.AsyncClient.__name__, library.AsyncConnectionPool.__name__)",
         "AsyncClient AsyncConnectionPool"),
        (_LIBRARY + "import logging; logging.basicConfig(level=10, stream=sys.stdout, format='%(name)s %(message)s')\n"
         "pool = library.ConnectionPool()\n"
         "try: pool.request('GET', 'http://127.0.0.1:1')\n"
         "except library.ConnectError: pass",
         "httpcore.connection connect_tcp.started"),
        (_LIBRARY + "pool = library.ConnectionPool()\n"
         "try: pool.request('GET', 'http://127.0.0.1:1')\n"
         "except library.ConnectError: print('logging' in sys.modules)",
         "False"),
        (_CLICK + "print({'uuid', 'platform'} & set(sys.modules))", "set()"),
        (_CLICK + "u = click.UUID.convert('8d5a2b3e-2c55-4bb5-a0b9-58a7a4a5d8f3', None, None)\n"
         "print(type(u).__module__, click.UUID.convert(u, None, None) is u)", "uuid True"),
    ],
)  # fmt: skip
def test_libraries_work_with_stand_ins(code: str, said: str) -> None:
    assert fresh(code).startswith(said)
