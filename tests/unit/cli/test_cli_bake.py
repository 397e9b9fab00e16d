"""Files of bake: what a target is after all that it inherits and all that changes it, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from img_core.api import BuildRequest
from img_core.cli.bake import _arguments
from img_core.cli.bake._file import BakeFile
from img_core.cli.bake._rounds import Rounds
from img_core.spec.errors import ImgError

FILE: dict[str, Any] = {
    "variable": {"TAG": {"default": "dev"}, "EMPTY": {}},
    "group": {"default": {"targets": ["app", "all"]}, "all": {"targets": ["app", "web"]}},
    "target": {
        "_one": {"args": {"A": "1", "B": "1", "N": 3}, "tags": ["one"], "cache-from": ["a"], "platforms": ["linux/amd64"]},
        "_two": {"args": {"B": "2"}, "cache-from": ["b"], "platforms": ["linux/arm64"]},
        "app": {"inherits": ["_one", "_two"], "args": {"C": "${TAG}-$${TAG}", "A": None}, "tags": ["app:${TAG}"],
                "output": [{"type": "oci", "dest": "x.tar"}]},
        "web": {"context": "web", "dockerfile": "D", "no-cache": True, "labels": {"b": True}},
        "loop": {"inherits": ["loop"]},
        "orphan": {"inherits": ["nobody"]},
        "stage": {"contexts": {"base": "target:web", "tool": "target:_tool"}},
        "_tool": {"network": "host"},
    },
}  # fmt: skip


def read(tmp_path: Path, document: Any = FILE, **environment: str) -> BakeFile:
    path = tmp_path / "bake.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return BakeFile([str(path)], environment)


def test_a_target_is_what_it_inherits_and_what_it_says(tmp_path: Path) -> None:
    found = read(tmp_path).chosen([])
    assert list(found) == ["app", "web"]
    assert found["app"] == {
        "args": {"A": "1", "B": "2", "N": "3", "C": "dev-${TAG}"},
        "tags": ["app:dev"],
        "cache-from": ["a", "b"],
        "platforms": ["linux/arm64"],
        "output": ["type=oci,dest=x.tar"],
    }
    assert read(tmp_path, TAG="2").chosen(["app"])["app"]["tags"] == ["app:2"]


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ("app.args.A=x=y", "args", {"A": "x=y", "B": "2", "N": "3", "C": "dev-${TAG}"}),
        ("*.platform=linux/s390x", "platforms", ["linux/s390x"]),
        ("a*.tags=t", "tags", ["t"]),
        ("app.context=c", "context", "c"),
        ("app.no-cache=true", "no-cache", True),
        ("app.secrets=id=a,src=b", "secret", ["id=a,src=b"]),
        ("app.cache-from+=c", "cache-from", ["a", "b", "c"]),
        ("app.cache-from=c", "cache-from", ["c"]),
        ("_one.args.B=9", "args", {"A": "1", "B": "2", "N": "3", "C": "dev-${TAG}"}),
        ("_two.args.B=9", "args", {"A": "1", "B": "9", "N": "3", "C": "dev-${TAG}"}),
        ("app.args.HERE", "args", {"A": "1", "B": "2", "N": "3", "C": "dev-${TAG}", "HERE": "yes"}),
        ("app.args.NOWHERE", "args", {"A": "1", "B": "2", "N": "3", "C": "dev-${TAG}"}),
    ],
)
def test_a_change(tmp_path: Path, change: str, key: str, value: Any) -> None:
    assert read(tmp_path, HERE="yes").chosen(["app"], [change])["app"][key] == value


def test_a_list_that_is_changed_twice_has_both(tmp_path: Path) -> None:
    assert read(tmp_path).chosen(["app"], ["app.tags=a", "*.tags=b"])["app"]["tags"] == ["a", "b"]


@pytest.mark.parametrize(
    ("target", "changes", "words"),
    [
        (["web"], [], ["--label=b=true", "--no-cache", "--file=web/D", "--", "web"]),
        (["web"], ["web.context=https://h/r.git"], ["--label=b=true", "--no-cache", "--file=D", "--", "https://h/r.git"]),
        (["web"], ["web.dockerfile-inline=FROM x"], ["--label=b=true", "--no-cache", "--", "web"]),
        (["web"], ["web.context=cwd://x", "web.target=t"], ["--label=b=true", "--target=t", "--no-cache", "--file=x/D", "--", "x"]),
    ],
)  # fmt: skip
def test_a_target_as_arguments(tmp_path: Path, target: list[str], changes: list[str], words: list[str]) -> None:
    flags = dict.fromkeys(
        ("engine", "executor", "explain", "insecure_registry", "max_parallelism", "metadata_file", "no_cache", "offline",
         "progress", "pull", "push")
    )  # fmt: skip
    assert _arguments("web", read(tmp_path).chosen(target, changes)["web"], flags) == words


@pytest.mark.parametrize(
    ("document", "names", "changes", "message"),
    [
        pytest.param("{", [], [], "is not JSON", id="no-json"),
        pytest.param("[]", [], [], "is not a JSON object", id="no-object"),
        pytest.param({"target": [1]}, [], [], "`target` must be an object of objects", id="targets-are-no-objects"),
        pytest.param({"target": {"a": {"matrix": {}}}}, ["a"], [], "has a `matrix` and no `name`", id="a-matrix-without-a-name"),
        pytest.param({"target": {"a": {"attest": []}}}, ["a"], [], "`attest`, which is not supported", id="an-unknown-key"),
        pytest.param({"target": {"a b": {}}}, ["a b"], [], "`a b` is no name of a target", id="no-name"),
        pytest.param({"group": {"a": {"matrix": {}}}}, [], [], "a group has no `matrix`", id="a-matrix-of-a-group"),
        pytest.param({"target": {"a": {"contexts": {"x": "target:b"}}}}, ["a"], [], "no target `b`, which is a context of `a`",
                     id="a-context-of-nobody"),
        pytest.param({"target": {"a": {"contexts": {"x": "target:b"}}, "b": {"contexts": {"x": "target:a"}}}}, ["a"], [],
                     "target `a` has itself as a context", id="a-context-of-itself"),
        pytest.param({"target": {"a": {"contexts": {"x": "target:b"}, "platforms": ["linux/amd64", "linux/arm64"]},
                                 "b": {"platforms": ["linux/amd64", "linux/s390x"]}}}, ["a"], [],
                     "its context `b` for `linux/amd64`, `linux/s390x`", id="a-context-of-other-platforms"),
        pytest.param({"target": {"a": {"tags": "x"}}}, ["a"], [], "`tags` of target `a` must be a list", id="no-list"),
        pytest.param({"target": {"a": {"tags": [[]]}}}, ["a"], [], "`tags` of target `a` must have texts", id="lists"),
        pytest.param({"target": {"a": {"args": []}}}, ["a"], [], "`args` of target `a` must be an object", id="no-map"),
        pytest.param({"target": {"a": {"pull": "x"}}}, ["a"], [], "must be true or false", id="no-boolean"),
        pytest.param({"target": {"a": {"target": 1}}}, ["a"], [], "must be text", id="no-text"),
        pytest.param({"target": {"a": {"tags": ["${f(1)}"]}}}, ["a"], [], "there is no function `f`", id="expression"),
        pytest.param({"target": {"a": {}}}, [], [], "there is no target `default`", id="no-default"),
        pytest.param({"group": {"a": {"targets": ["a"]}}}, ["a"], [], "group `a` contains itself", id="a-group-of-itself"),
        pytest.param(FILE, ["loop"], [], "target `loop` inherits itself", id="inherits-itself"),
        pytest.param(FILE, ["orphan"], [], "no target `nobody`, which `orphan` inherits", id="inherits-nobody"),
        pytest.param(FILE, ["app"], ["x"], "invalid value of `--set`", id="no-change"),
        pytest.param(FILE, ["app"], ["x.tags=a"], "means no target", id="a-change-of-nobody"),
        pytest.param(FILE, ["app"], ["app.nothing=a"], "cannot be done", id="a-change-of-nothing"),
        pytest.param(FILE, ["app"], ["app.args=a"], "cannot be done", id="a-change-of-a-map"),
        pytest.param(FILE, ["app"], ["app.pull=maybe"], "cannot be done", id="a-change-to-no-boolean"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, document: Any, names: list[str], changes: list[str], message: str) -> None:
    with pytest.raises(ImgError, match=re.escape(message)) as caught:
        read(tmp_path, document).chosen(names, changes)
    assert "\n" not in caught.value.message


def test_standard_input_is_no_context(tmp_path: Path) -> None:
    with pytest.raises(ImgError, match="cannot come from standard input"):
        _arguments("stage", read(tmp_path).chosen(["stage"], ["stage.context=-"])["stage"], {})


def test_targets_that_are_contexts_are_built_for_who_reads_them(tmp_path: Path) -> None:
    """What was asked for keeps its outputs, what was not has none; who reads a target may what that may."""
    file = read(tmp_path)
    assert (file.asked(["stage", "web"]), list(file.chosen(["stage", "web"]))) == (
        ["stage", "web"],
        ["stage", "web", "_tool"],
    )
    found = file.chosen(["stage"], ["web.output=type=oci,dest=x", "_tool.args.A=1"])
    assert (found["web"]["output"], found["_tool"]["args"]) == (["type=cacheonly"], {"A": "1"})
    assert found["stage"]["entitlements"] == found["_tool"]["entitlements"] == ["network.host"]
    assert file.chosen(["stage"], ["stage.contexts.base=", "stage.contexts.tool="]).keys() == {"stage"}


@pytest.mark.parametrize(
    ("links", "rounds"),
    [
        pytest.param({"a": [], "b": []}, [["a", "b"]], id="nobody-reads-another"),
        pytest.param({"a": ["b"], "b": ["c"], "c": []}, [["c"], ["b"], ["a"]], id="a-chain"),
        pytest.param({"a": ["c"], "b": [], "c": [], "d": ["a", "c"]}, [["b", "c"], ["a"], ["d"]], id="what-is-ready-goes-first"),
    ],
)  # fmt: skip
def test_rounds(links: dict[str, list[str]], rounds: list[list[str]]) -> None:
    read_ones = {name: {other: other for other in others} for name, others in links.items()}
    assert Rounds({name: BuildRequest() for name in links}, read_ones, list(links)).order() == rounds


def test_without_a_file_it_says_which_one_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImgError, match=r"no `docker-bake\.hcl` or `docker-bake\.json` here") as caught:
        BakeFile([], {})
    assert caught.value.hint == "name one with `-f`"
    (tmp_path / "compose.yaml").touch()
    with pytest.raises(ImgError) as caught:
        BakeFile([], {})
    assert "files of compose are not read" in str(caught.value.hint)
    with pytest.raises(ImgError, match="is YAML"):
        BakeFile(["compose.yaml"], {})


def test_the_usual_files_are_read_one_behind_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docker-bake.override.json").write_text('{"variable": {"TAG": {"default": "3"}}}')
    (tmp_path / "docker-bake.hcl").write_text(
        'variable "TAG" { default = "2" }\ntarget "a" {\n  tags = [TAG]\n  context = "h"\n}\n'
    )
    (tmp_path / "docker-bake.json").write_text(
        '{"target": {"a": {"context": "j", "target": "t", "inherits": ["b"]}, "b": {"pull": true}}}'
    )
    expected = {"context": "h", "target": "t", "tags": ["3"], "pull": True}
    assert BakeFile([], {}).chosen(["a"]) == {"a": expected}
    assert BakeFile(["cwd://docker-bake.hcl"], {"TAG": "x"}).chosen(["a"])["a"]["tags"] == ["x"]
