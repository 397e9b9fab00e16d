"""What shells are told about a line that is being typed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from img_core.cli._frame import RootCommand
from img_core.cli.completion.answers import answers
from img_core.cli.completion.shells import answer, script

DOCKERFILE = "FROM scratch AS one\nFROM one AS two\n"


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a directory with a Dockerfile, and with a state and a home of its own."""
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "other").write_text("FROM scratch AS three\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(autouse=True)
def _same_user() -> Iterator[None]:
    """See that nothing enters a user namespace in this process: all later tests would be in it."""
    before = os.readlink("/proc/self/ns/user")
    yield
    assert os.readlink("/proc/self/ns/user") == before


def found(line: str) -> list[str]:
    *words, last = line.split(" ")
    return [f"{item.type}:{item.value}" for item in answers(RootCommand(), words, last)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("im", ["word:image", "word:images", "word:import"], id="command"),
        pytest.param("image l", ["word:list", "word:load", "word:ls"], id="command-of-a-group"),
        pytest.param("plugins d", ["word:disable"], id="command-below"),
        pytest.param("build --targ", ["word:--target"], id="flag"),
        pytest.param("build --layer", [], id="hidden-flag"),
        pytest.param("build --stat", ["word:--state"], id="global-flag"),
        pytest.param("build --target ", ["word:one", "word:two"], id="stages"),
        pytest.param("build -f other --target ", ["word:three"], id="stages-of-another-file"),
        pytest.param("build -f nope --target ", [], id="stages-of-no-file"),
        pytest.param("build --target= ", ["dir:"], id="after-a-flag-with-its-value"),
        pytest.param("build --no-cache-filter one,t", ["word:one,two"], id="second-of-a-list"),
        pytest.param("build --target=o", ["word:--target=one"], id="joined"),
        pytest.param("build -o type=oc", ["word:type=oci"], id="exporter"),
        pytest.param("build -o type=tar,de", ["open:type=tar,dest="], id="option-of-an-exporter"),
        pytest.param("build -o type=tar,dest=x,de", [], id="option-given-before"),
        pytest.param("build -o type=tar,dest=x", ["file:type=tar,dest=x"], id="value-of-an-option"),
        pytest.param("build -o type=nope,", [], id="options-of-nothing"),
        pytest.param("build --output=type=oc", ["word:--output=type=oci"], id="exporter-joined"),
        pytest.param("build --executor runc,r", ["open:runc,runtime="], id="option-of-an-executor"),
        pytest.param("build --cache-to type=local,de", ["open:type=local,dest="], id="option-of-a-cache"),
        pytest.param("build --secret i", ["open:id="], id="id-of-a-secret"),
        pytest.param("build --secret id=x,t", ["open:id=x,type="], id="type-of-a-secret"),
        pytest.param("build --secret id=x,type=f", ["word:id=x,type=file"], id="secret-provider"),
        pytest.param("build --secret type=e", ["word:type=env"], id="secret-provider-first"),
        pytest.param("build --secret id=x,type=file,s", ["open:id=x,type=file,src="], id="option-of-a-provider"),
        pytest.param("build --secret id=x,e", ["open:id=x,env="], id="option-of-any-provider"),
        pytest.param("build --secret id=x,src=f", ["file:id=x,src=f"], id="file-of-a-secret"),
        pytest.param("save --format o", ["word:oci"], id="form-of-archives"),
        pytest.param("plugins new exe", ["word:executor"], id="kind"),
        pytest.param("plugins check exporter:ta", ["word:exporter:tar"], id="plugin-to-check"),
        pytest.param("-b overl", ["word:overlayfs"], id="backend"),
        pytest.param("build --network p", ["word:private"], id="network"),
        pytest.param("build --platform linux/arm6", ["word:linux/arm64"], id="platform"),
        pytest.param("build --no-plugin exporter:ta", ["word:exporter:tar"], id="plugin"),
        pytest.param("plugins info executor:u", ["word:executor:userns"], id="plugin-argument"),
        pytest.param("completion z", ["word:zsh"], id="shell"),
        pytest.param("build ", ["dir:"], id="context"),
        pytest.param("load -i x", ["file:x"], id="file"),
        pytest.param("inspect ", [], id="no-images"),
        pytest.param("nosuch --", [], id="unknown-command"),
        pytest.param("build --nosuch x ", ["dir:"], id="unknown-flag"),
        pytest.param("-s /dev/null/x inspect ", [], id="no-state"),
    ],
)
def test_what_can_follow(line: str, expected: list[str]) -> None:
    assert found(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("build --engine proc", ["word:processes"]),
        ("build --engine processes,wo", ["open:processes,workers="]),
        ("engines ls pro", ["word:processes"]),
        ("engines ls a", []),
    ],
)
def test_engines_are_found_where_some_are_installed(line: str, expected: list[str], tmp_path: Path) -> None:
    directory = tmp_path / "config/img/plugins"
    directory.mkdir(parents=True)
    text = "from img_lib_engines.processes import engine_plugin\nimg_engine = engine_plugin()\n"
    (directory / "engine-processes.py").write_text(text)
    assert found(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("img build -o type=oc", "word\noci\n", id="after-an-equals-sign"),
        pytest.param("img build --no-plugin exporter:ta", "word\ntar\n", id="after-a-colon"),
        pytest.param("img build --target=o", "word\none\n", id="joined"),
        pytest.param("img build --targ", "word\n--target\n", id="whole-word"),
        pytest.param('img build "unclosed', "dir\nunclosed\n", id="open-quote"),
        pytest.param("img nosuch x", "", id="nothing"),
    ],
)
def test_bash_gets_what_follows_the_last_break(line: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_IMG_COMPLETE", "bash_complete")
    monkeypatch.setenv("_IMG_LINE", line)
    monkeypatch.setenv("_IMG_BREAKS", " \t\n\"'><=;|&(:")
    assert answer(RootCommand()) == expected


@pytest.mark.parametrize(("shell", "words"), [("zsh", "img\nbuild\n--targ"), ("fish", "img build --targ")])
def test_the_others_get_whole_words(shell: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_IMG_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    assert answer(RootCommand()) == "word\n--target\n"


def test_the_way_of_clicks_documentation_gives_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_IMG_COMPLETE", "zsh_source")
    assert answer(RootCommand()) == script("zsh")


@pytest.mark.parametrize("asked", ["", "bash", "bash_x", "csh_complete", "x"])
def test_an_unknown_question_is_not_answered(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_IMG_COMPLETE", asked)
    if asked in ("bash", "bash_x"):
        monkeypatch.setenv("_IMG_LINE", "img nosuch x")
    assert answer(RootCommand()) == ""


def test_no_completion_for_a_broken_configuration(tmp_path: Path) -> None:
    (tmp_path / "config/img").mkdir(parents=True)
    (tmp_path / "config/img/config.toml").write_text("[")
    assert found("build --no-plugin ") == []
    assert isinstance(RootCommand(), click.Group)
