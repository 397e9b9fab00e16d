"""What listeners add to a build, and what they are told of it, in which order, and with whose name when they fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.img import Img, write_context

pytestmark = pytest.mark.rootless

HEAD = "import json\nfrom img_core.spec import RunAddition, RunMount, UsageError, hookimpl\n"
TELLING = (
    HEAD
    + """
def note(*what):
    with open(PATH, "a") as file:
        file.write(json.dumps(what) + "\\n")
@hookimpl
def img_run_planned(vertex):
    note("run", vertex.name)
@hookimpl
def img_build_planned(plan):
    note("planned", len(plan.images))
@hookimpl
def img_step_finished(vertex, cached):
    note("step", vertex.name)
@hookimpl
def img_exported(exporter, names, metadata):
    note("exported", exporter, list(names), metadata.get("containerimage.digest", ""))
@hookimpl
def img_build_finished(error, seconds):
    note("finished", error, seconds > 0)
"""
)
ADDING = HEAD + "@hookimpl\ndef img_run_planned(vertex):\n    return RunAddition(BODY)\n"
Plug = Callable[..., Img]


@pytest.fixture
def plug(img: Img) -> Plug:
    """Return a function that writes the listener *name* and returns the command that has it."""
    directory = img.home / ".config/img/plugins"
    directory.mkdir(parents=True)

    def do(source: str, name: str = "one") -> Img:
        path = directory / f"listener-{name}.py"
        path.write_text(source)
        path.chmod(0o644)
        return img

    return do


def context(tmp_path: Path, text: str) -> Path:
    return write_context(tmp_path / "context", text)


def test_a_build_is_told_in_order(plug: Plug, tmp_path: Path) -> None:
    img = plug(TELLING.replace("PATH", repr(str(tmp_path / "told"))))
    place = context(tmp_path, "FROM busybox\nRUN echo one\n")
    digest = img.build(place, "-q", tag="app:1").ok().text.strip()
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    kinds = [row[0] for row in told]
    assert kinds == ["run", "planned", *["step"] * kinds.count("step"), "exported", "finished"]
    assert told[-2][1:3] == ["image", ["docker.io/library/app:1"]]
    assert told[-2][3] in digest or digest
    assert told[-1] == ["finished", "", True]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("FROM busybox\nRUN exit 3\n", "did not complete successfully: exit code: 3"),
        ("FROM busybox\nCOPY none /\n", "none"),
    ],
)
def test_a_failure_is_told_in_a_line(plug: Plug, tmp_path: Path, text: str, error: str) -> None:
    img = plug(TELLING.replace("PATH", repr(str(tmp_path / "told"))))
    assert img.build(context(tmp_path, text)).returncode != 0
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    if ["planned", 1] not in told:  # it failed before there was a plan
        assert not [row for row in told if row[0] == "finished"]
        return
    assert told[-1][0] == "finished"
    assert error in told[-1][1]
    assert "\n" not in told[-1][1]


def test_what_is_added_is_there_and_counts(plug: Plug, tmp_path: Path) -> None:
    place = context(
        tmp_path,
        'FROM busybox\nENV OWN=mine\nRUN echo "$ADDED $OWN" > /seen; test -d /tmp/mounted\nRUN cp /seen /copy\n',
    )
    mount = "mounts=(RunMount('tmpfs', '/tmp/mounted'),)"

    def build(added: str) -> tuple[str, int]:
        img = plug(ADDING.replace("BODY", f"env=(('ADDED', {added!r}), ('OWN', 'theirs')), {mount}"))
        done = img.build(place, "--progress=plain", "-o", f"{tmp_path}/out-{added}", tag="").ok()
        return (tmp_path / f"out-{added}/copy").read_text(), done.stderr.count("CACHED")

    assert build("one") == ("one mine\n", 0)
    assert build("two") == ("two mine\n", 0)
    text, cached = build("one")
    assert text == "one mine\n"
    assert cached >= 2


BAD = {
    "a name": ("env=(('A=B', 'x'),)", "which cannot be one"),
    "a bind mount": ("mounts=(RunMount('bind', '/x', input=0),)", "`/x`"),
    "a relative target": ("mounts=(RunMount('tmpfs', 'x'),)", "`x`"),
    "a target twice": ("mounts=(RunMount('tmpfs', '/x'), RunMount('tmpfs', '/x'))", "a second mount at `/x`"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_added_is_refused(plug: Plug, tmp_path: Path, what: str) -> None:
    img = plug(ADDING.replace("BODY", BAD[what][0]))
    img.build(context(tmp_path, "FROM busybox\nRUN true\n")).refused(1, "listener", BAD[what][1])


def test_two_that_disagree_are_an_error(plug: Plug, tmp_path: Path) -> None:
    plug(ADDING.replace("BODY", "env=(('A', '1'),)"), "first")
    img = plug(ADDING.replace("BODY", "env=(('A', '2'),)"), "second")
    img.build(context(tmp_path, "FROM busybox\nRUN true\n")).refused(1, "two listeners add other values of `A`")


def test_one_that_fails_stops_the_build_with_its_name(plug: Plug, tmp_path: Path) -> None:
    img = plug(HEAD + "@hookimpl\ndef img_run_planned(vertex):\n    1 / 0\n")
    done = img.build(context(tmp_path, "FROM busybox\nRUN true\n"))
    done.refused(1, f"plugin listener:one of {img.home}/.config/img/plugins/listener-one.py failed: ZeroDivisionError")
    img = plug(HEAD + "@hookimpl\ndef img_run_planned(vertex):\n    raise UsageError('no RUN here')\n")
    img.build(context(tmp_path, "FROM busybox\nRUN true\n")).refused(2, "no RUN here")
    img = plug(HEAD + "@hookimpl\ndef img_exported(names):\n    1 / 0\n")
    done = img.build(context(tmp_path, "FROM busybox\nRUN true\n")).ok()
    assert "listener-one.py failed: ZeroDivisionError: division by zero (in `img_exported`)" in done.stderr


def test_calls_can_be_seen_with_their_times(plug: Plug, tmp_path: Path) -> None:
    img = plug(TELLING.replace("PATH", repr(str(tmp_path / "told"))))
    place = context(tmp_path, "FROM busybox\nRUN true\n")
    lines = img.with_environment(IMG_TRACE_PLUGINS="1").build(place).ok().stderr.splitlines()
    seen = [line.removeprefix("plugin listener:one: ") for line in lines if line.startswith("plugin listener:one: ")]
    assert {line.split()[0] for line in seen} == {
        "loaded", "img_run_planned", "img_build_planned", "img_step_finished", "img_exported", "img_build_finished",
    }  # fmt: skip
    assert all(line.endswith(" ms") for line in seen)
    assert any(line.startswith("plugin exporter:image: made in ") for line in lines)
    assert not [line for line in img.build(place).ok().stderr.splitlines() if line.startswith("plugin ")]
