"""Source policies: what they decide, and what they do to real builds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from img_policy_sources._policy import read_policy

from img_core.spec import ImgError, SourceOp, UsageError
from img_core.testing.faulty_registry import FaultyRegistry
from img_core.testing.images import make_image

pytest_plugins = ["img_core.testing.fixtures"]

IMAGE = SourceOp("docker-image", "docker.io/library/alpine:3.22")
FILE = SourceOp("https", "https://example.org/tool", (("filename", "tool"),))
GIT = SourceOp("git", "https://example.org/r.git#main")
SUM = "sha256:" + "a" * 64


def rule(action: str, identifier: str, match: str = "WILDCARD", **more: Any) -> dict[str, Any]:
    selector = {
        "identifier": identifier,
        "matchType": match,
        **({"constraints": more.pop("constraints")} if "constraints" in more else {}),
    }
    return {"action": action, "selector": selector, **more}


def written(directory: Path, *rules: dict[str, Any]) -> str:
    path = directory / "policy.json"
    path.write_text(json.dumps({"rules": rules}))
    return str(path)


DENY, ALLOW = rule("DENY", "*"), rule("ALLOW", "docker-image://docker.io/library/*")
DECISIONS: dict[str, tuple[list[dict[str, Any]], SourceOp, bool]] = {
    "no rule": ([], IMAGE, True),
    "deny all": ([DENY], IMAGE, False),
    "the last counts": ([DENY, ALLOW], IMAGE, True),
    "in the other order": ([ALLOW, DENY], IMAGE, False),
    "allowed is another one": ([DENY, ALLOW], FILE, False),
    "exact": ([rule("DENY", "docker-image://docker.io/library/alpine:3.22", "EXACT")], IMAGE, False),
    "exact is no wildcard": ([rule("DENY", "docker-image://*", "EXACT")], IMAGE, True),
    "wildcard is whole": ([rule("DENY", "docker-image://docker.io/library/alpine")], IMAGE, True),
    "regex is found anywhere": ([rule("DENY", "alp.ne", "REGEX")], IMAGE, False),
    "a dot is a dot": ([rule("DENY", "docker-image://dockerXio/*")], IMAGE, True),
    "url": ([rule("DENY", "https://example.org/*")], FILE, False),
    "git": ([rule("DENY", "git://example.org/r.git#*")], GIT, False),
    "constraint holds": (
        [rule("DENY", "https://*", constraints=[{"key": "http.checksum", "value": "", "condition": "EQUAL"}])],
        FILE,
        False,
    ),
    "constraint does not hold": (
        [rule("DENY", "https://*", constraints=[{"key": "http.checksum", "value": "", "condition": "NOTEQUAL"}])],
        FILE,
        True,
    ),
    "constraint by pattern": (
        [rule("DENY", "https://*", constraints=[{"key": "http.checksum", "value": "^$", "condition": "MATCHES"}])],
        FILE,
        False,
    ),
}


@pytest.mark.parametrize("name", DECISIONS)
def test_what_is_allowed(name: str, tmp_path: Path) -> None:
    rules, source, allowed = DECISIONS[name]
    policy = read_policy(written(tmp_path, *rules))
    if allowed:
        assert policy.decide(source) is None
    else:
        with pytest.raises(ImgError, match="is denied by the source policy"):
            policy.decide(source)


CONVERSIONS: dict[str, tuple[dict[str, Any], SourceOp, SourceOp | None]] = {
    "mirror": (
        rule("CONVERT", "docker-image://docker.io/*", updates={"identifier": "docker-image://mirror.example/${1}"}),
        IMAGE,
        SourceOp("docker-image", "mirror.example/library/alpine:3.22"),
    ),
    "pin": (
        rule(
            "CONVERT",
            f"docker-image://{IMAGE.reference}",
            updates={"identifier": f"docker-image://{IMAGE.reference}@{SUM}"},
        ),
        IMAGE,
        SourceOp("docker-image", f"{IMAGE.reference}@{SUM}"),
    ),
    "checksum": (
        rule("CONVERT", "https://example.org/*", updates={"attrs": {"http.checksum": SUM}}),
        FILE,
        SourceOp("https", FILE.reference, (("filename", "tool"), ("checksum", SUM))),
    ),
    "another server": (
        rule("CONVERT", "https://(.*)/tool", "REGEX", updates={"identifier": "http://mirror.example/$1/tool"}),
        FILE,
        SourceOp("https", "http://mirror.example/example.org/tool", FILE.options),
    ),
    "git keeps its transport": (
        rule("CONVERT", "git://example.org/*", updates={"identifier": "git://mirror.example/$1"}),
        GIT,
        SourceOp("git", "https://mirror.example/r.git#main"),
    ),
    "nothing to change": (rule("CONVERT", "docker-image://*", updates={"attrs": {"http.checksum": SUM}}), IMAGE, None),
    "nothing at all": (rule("CONVERT", "docker-image://*"), IMAGE, None),
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_what_is_converted(name: str, tmp_path: Path) -> None:
    changing, source, expected = CONVERSIONS[name]
    assert read_policy(written(tmp_path, changing)).decide(source) == expected


BAD = {
    "no JSON": "{",
    "no rules": "{}",
    "another action": json.dumps({"rules": [rule("FORBID", "*")]}),
    "another match type": json.dumps({"rules": [rule("DENY", "*", "GLOB")]}),
    "a bad pattern": json.dumps({"rules": [rule("DENY", "(", "REGEX")]}),
    "two stars": json.dumps({"rules": [rule("DENY", "**")]}),
    "an unknown key": json.dumps({"rules": [{**rule("DENY", "*"), "actoin": "ALLOW"}]}),
    "an unknown attribute": json.dumps({"rules": [rule("CONVERT", "*", updates={"attrs": {"http.header": "x"}})]}),
    "no selector": json.dumps({"rules": [{"action": "DENY"}]}),
    "a list": "[]",
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_understood_is_an_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(BAD[name])
    with pytest.raises(UsageError, match="source policy"):
        read_policy(str(tmp_path / "policy.json"))


def test_a_source_does_not_change_its_kind(tmp_path: Path) -> None:
    changing = rule("CONVERT", "docker-image://*", updates={"identifier": "https://example.org/$1"})
    with pytest.raises(UsageError, match="cannot convert"):
        read_policy(written(tmp_path, changing)).decide(IMAGE)


def built(directory: Path, policy: str, text: str) -> subprocess.CompletedProcess[str]:
    context = directory / "context"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(text)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("IMG_", "XDG_", "DOCKER_"))}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "img_core",
            "-s",
            str(directory / "state"),
            "build",
            "-o",
            f"type=local,dest={directory / 'out'}",
            "context",
        ],
        cwd=directory,
        env={**kept, "HOME": str(directory), "IMG_SOURCE_POLICY": policy},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.rootless
def test_a_build_takes_what_the_policy_says(tmp_path: Path, faulty_registry: FaultyRegistry) -> None:
    faulty_registry.add("public/app", "1", make_image([{"file": b"public\n"}]))
    faulty_registry.add("mirror/app", "1", make_image([{"file": b"mirror\n"}]))
    host = faulty_registry.address
    text = f"FROM {host}/public/app:1\nCOPY Dockerfile /\n"
    mirror = rule(
        "CONVERT", f"docker-image://{host}/public/*", updates={"identifier": f"docker-image://{host}/mirror/$1"}
    )
    done = built(tmp_path, written(tmp_path, mirror), text)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/file").read_text() == "mirror\n"
    assert not faulty_registry.asked("public/app")


@pytest.mark.rootless
@pytest.mark.parametrize("line", ["FROM {host}/app:1", "COPY --from={host}/app:1 /file /", "ADD http://{host}/file /"])
def test_a_denied_source_ends_the_build_before_anybody_is_asked(
    line: str, tmp_path: Path, faulty_registry: FaultyRegistry
) -> None:
    host = faulty_registry.address
    text = line.format(host=host) if line.startswith("FROM") else f"FROM scratch\n{line.format(host=host)}\n"
    done = built(tmp_path, written(tmp_path, rule("DENY", "*")), text + "\nCOPY Dockerfile /\n")
    assert done.returncode not in (0, 125), done.stderr
    assert "is denied by the source policy" in done.stderr
    assert "Traceback" not in done.stderr
    assert not faulty_registry.requests
