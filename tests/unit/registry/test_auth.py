import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img_registry_oci._auth import parse_challenges


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        (['Basic realm="x"'], [("basic", {"realm": "x"})]),
        (["Basic"], [("basic", {})]),
        (["BEARER Realm=\"https://a/t\",SERVICE='x y'"], [("bearer", {"realm": "https://a/t", "service": "'x y'"})]),
        (
            ['Bearer realm="https://a/t",service="s",scope="repository:a:pull,push"'],
            [("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:a:pull,push"})],
        ),
        (
            ['Bearer realm="r" , service=s, Basic realm="b, c=d", Negotiate'],
            [("bearer", {"realm": "r", "service": "s"}), ("basic", {"realm": "b, c=d"}), ("negotiate", {})],
        ),
        (['Basic realm="a"', 'Bearer realm="b"'], [("basic", {"realm": "a"}), ("bearer", {"realm": "b"})]),
        ([r'Basic realm="a \"quoted\" \\ word"'], [("basic", {"realm": r'a "quoted" \ word'})]),
        (['Bearer realm="first",realm="second"'], [("bearer", {"realm": "first"})]),
        (['Bearer realm=""'], [("bearer", {"realm": ""})]),
        (['realm="no scheme"'], []),
        ([",,, ,"], []),
        (['Basic realm="never closed'], [("basic", {"realm": '"never closed'})]),
    ],
)
def test_challenges_are_read(values: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(item.scheme, dict(item.parameters)) for item in parse_challenges(values)] == expected


@given(st.lists(st.text('aB=," \\', max_size=60) | st.text(max_size=20), max_size=4))
def test_any_header_is_read_without_an_error(values: list[str]) -> None:
    for challenge in parse_challenges(values):
        assert challenge.scheme == challenge.scheme.lower()


def test_long_header_is_read_in_linear_time() -> None:
    assert parse_challenges(['Basic realm="' + '\\",' * 10**6]) != []


def test_http_library_is_loaded_with_the_first_request_only() -> None:
    program = (
        "import sys; from img_registry_oci._client import RegistryClient; RegistryClient('quay.io').close(); "
        "print([m for m in ('httpcore', 'truststore', 'jsonschema', 'asyncio', 'email', 'click') if m in sys.modules]); "
        "from img_core.net import _library; _library.load(); "
        "print([m for m in ('httpx', 'email', 'http.client', 'urllib.request') if m in sys.modules]); _library.load_httpx(); "
        "print([m for m in ('rich', 'click', 'pygments', 'httpx._main') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["[]", "[]", "[]", ""]
