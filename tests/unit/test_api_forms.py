"""The forms in which callers of the Python API may write things."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import img_core.api
from img_core.api import BuildRequest, CachePlace, Output, SecretSource, build
from img_core.api._given import _FORMS, BuildOptions, request_of
from img_core.linux import worker
from img_core.spec import UsageError

ROOT = Path(img_core.__file__).parents[1]


@pytest.mark.parametrize(
    ("given", "field", "expected"),
    [
        ({"context": "https://h/r.git#main"}, "context", "https://h/r.git#main"),
        ({"context": Path("a//b")}, "context", "a/b"),
        ({"tags": "a:1"}, "tags", ("a:1",)),
        ({"tags": ["a:1", "b"]}, "tags", ("a:1", "b")),
        ({"tags": (tag for tag in "ab")}, "tags", ("a", "b")),
        ({"platforms": "linux/amd64"}, "platforms", ("linux/amd64",)),
        ({"platforms": "linux/amd64, linux/arm64"}, "platforms", ("linux/amd64", "linux/arm64")),
        ({"definition": "FROM scratch\n"}, "definition", b"FROM scratch\n"),
        ({"definition": b"FROM scratch\n"}, "definition", b"FROM scratch\n"),
        ({"dockerfile": Path("x/Dockerfile")}, "dockerfile", "x/Dockerfile"),
        ({"outputs": {"type": "oci", "dest": Path("a.tar")}}, "outputs", (Output("oci", {"dest": "a.tar"}),)),
        ({"outputs": [Output("image")]}, "outputs", (Output("image"),)),
        ({"secrets": {"s": b"x"}}, "secrets", {"s": SecretSource(value=b"x")}),
        ({"contexts": {"a": Path("b")}}, "contexts", {"a": "b"}),
        ({"add_hosts": {"h": "::1"}}, "add_hosts", (("h", "::1"),)),
        ({"build_args": {"A": None, "B": "1"}}, "build_args", {"A": None, "B": "1"}),
        ({"insecure_registries": "*"}, "insecure_registries", ("*",)),
        ({"allow": "network.host"}, "allow", ("network.host",)),
        ({"cache_from": "user/app:cache"}, "cache_from", (CachePlace("registry", {"ref": "user/app:cache"}),)),
        (
            {"cache_from": "a,b"},
            "cache_from",
            (CachePlace("registry", {"ref": "a"}), CachePlace("registry", {"ref": "b"})),
        ),
        ({"cache_from": ["a", "", "a"]}, "cache_from", (CachePlace("registry", {"ref": "a"}),)),
        ({"cache_to": "type=local,DEST=c,mode=max"}, "cache_to", (CachePlace("local", {"dest": "c", "mode": "max"}),)),
        ({"cache_to": 'type=local,"dest=a,b"'}, "cache_to", (CachePlace("local", {"dest": "a,b"}),)),
        ({"cache_to": {"type": "local", "dest": Path("c")}}, "cache_to", (CachePlace("local", {"dest": "c"}),)),
        ({"cache_to": [CachePlace("inline"), "type=inline"]}, "cache_to", (CachePlace("inline"),)),
    ],
)
def test_one_form_reaches_the_request(given: dict[str, Any], field: str, expected: object) -> None:
    assert getattr(request_of(**given), field) == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"context": 1}, "`context` of build() must be text or a path, not int"),
        ({"tags": 1}, "`tags` of build() must be text, or several texts, not int"),
        ({"tags": [1]}, "`tags` of build() must be text, not int"),
        ({"tags": b"a"}, "`tags` of build() must be text, or several texts, not bytes"),
        ({"definition": 1}, "`definition` of build() must be text, not int"),
        ({"definition": Path("x")}, "`definition` of build() must be text, not PosixPath"),
        ({"outputs": "type=oci"}, "`outputs` of build() must be a mapping such as"),
        ({"outputs": [{"dest": "x"}]}, "an item of `outputs` has no `type`"),
        ({"build_args": {"A": 1}}, "`build_args['A']` of build() must be text, not int"),
        ({"cache_from": "ref=a"}, "`cache_from` requires type=<type>"),
        ({"cache_from": "type=local,a"}, "invalid value of `cache_from`: `a`"),
        ({"cache_from": 'a"b'}, 'invalid value of `cache_from`: `a"b`: parse error'),
        ({"cache_to": 1}, "`cache_to` of build() must be text, a mapping such as"),
        ({"cache_to": [{"dest": "c"}]}, "an item of `cache_to` has no `type`"),
        ({"build_args": ["A=1"]}, "`build_args` of build() must be a mapping, not list"),
        ({"labels": {"A": None}}, "must be text, not NoneType"),
        ({"secrets": {"s": "x"}}, "must be bytes or a `SecretSource`, not str"),
        ({"ssh": {"s": "x"}}, "must be a `SshAgent`, not str"),
        ({"no_cache": "no"}, "`no_cache` of build() must be True or False, not str"),
        ({"max_parallelism": "2"}, "must be a whole number, not str"),
        ({"limits": {}}, "must be a `Limits`, not dict"),
        ({"add_hosts": "h=1"}, "must be a mapping, or pairs, not str"),
    ],
)
def test_another_form_is_refused_at_once(given: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "run_in_worker", lambda *_: pytest.fail("a process was started"))
    with pytest.raises(UsageError) as caught:
        build(**given)
    assert words in caught.value.message


def test_a_whole_request_stands_for_the_context_and_what_is_beside_it_counts_more() -> None:
    whole = BuildRequest(context="a", tags=("a:1",), build_args={"A": "1"}, pull=True)
    assert request_of(whole, tags=(), outputs=(), build_args={}) == whole
    changed = request_of(whole, tags="b:1", build_args={}, no_cache=True)
    assert (changed.tags, changed.build_args, changed.no_cache, changed.pull) == (("b:1",), {"A": "1"}, True, True)


def test_an_unknown_argument_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'tag'"):
        build(tag="x")  # type: ignore[call-arg]


def test_every_field_of_a_request_is_an_argument() -> None:
    named = {"context", "tags", "outputs", "build_args"}
    assert {item.name for item in fields(BuildRequest)} == named | set(BuildOptions.__annotations__) == set(_FORMS)


def test_a_strict_type_checker_finds_arguments_that_do_not_exist(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from img_core.api import build\n"
        "build('.', tags='a', platforms='linux/amd64', definition='FROM scratch', no_cache=True)\n"
        "build('.', tag='a')\n"
        "build('.', no_cache='yes')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(program)],
        capture_output=True, text=True, cwd=tmp_path, env={"MYPYPATH": f"{ROOT}:{ROOT / 'plugins'}"}, check=False,
    )  # fmt: skip
    found = [line.split(":")[1] for line in done.stdout.splitlines() if ": error: " in line]
    assert found == ["3", "4"], done.stdout + done.stderr
