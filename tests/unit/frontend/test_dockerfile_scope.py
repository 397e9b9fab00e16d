"""Cases SC of the Dockerfile specification: ARG and ENV."""

import pytest
from frontend_support import AMD64, ARM64, DictResolver, config, env, failure, history, image, plan, run

from img_core.spec.values import Platform


def variables(text: str, **args: str) -> dict[str, str]:
    """Return the environment of the last RUN."""
    return dict(run(text, args=args).env)


def test_env_after_arg_hides_it() -> None:  # SC1
    assert env("FROM b\nARG V=d\nENV V=e\nENV O=$V", args={"V": "c"})["O"] == "e"


def test_arg_with_a_value_after_env_hides_it_but_not_in_the_config() -> None:  # SC2
    text = "FROM b\nENV V=e\nARG V=d\nRUN echo $V\nENV O=$V"
    assert variables(text)["V"] == "d"
    assert env(text) == {"PATH": "/bin", "V": "e", "O": "d"}


def test_argument_that_hides_a_variable_is_reported_unless_it_has_the_same_value() -> None:
    text = "FROM b\nENV V=e\nARG V\nARG PATH=/bin"
    assert plan(text).warnings == plan(text, args={"V": "e"}).warnings == ()
    (warning,) = plan(text, args={"V": "x"}).warnings
    assert warning.message == "argument `V` hides the variable that ENV set, in this stage and not in the image"
    assert warning.location is not None
    assert warning.location.first_line == 3


def test_arg_without_value_leaves_env_alone() -> None:  # SC3
    text = "FROM b\nENV V=e\nARG V\nRUN x"
    assert variables(text)["V"] == "e"
    assert variables(text, V="c")["V"] == "c"


def test_global_arg_needs_a_declaration_in_the_stage() -> None:  # SC4
    assert "G" not in variables("ARG G=g\nFROM b\nRUN x")
    assert variables("ARG G=g\nFROM b\nARG G\nRUN x")["G"] == "g"


def test_default_of_the_stage_beats_the_global_one_and_the_build_argument_both() -> None:  # SC5
    text = "ARG G=g\nFROM b\nARG G=s\nRUN x"
    assert variables(text)["G"] == "s"
    assert variables(text, G="x")["G"] == "x"


def test_empty_build_argument_overrides() -> None:  # SC6
    text = "FROM b\nARG G=s\nENV X=${G-unset}\nRUN x"
    assert variables(text, G="") == {"PATH": "/bin", "G": "", "X": ""}


def test_overridden_default_is_not_evaluated() -> None:  # SC7
    assert variables("FROM b\nARG A=${U:?boom}\nRUN x", A="ok")["A"] == "ok"
    assert variables("ARG A=${U:?boom}\nFROM b\nARG A\nRUN x", A="ok")["A"] == "ok"


def test_child_stage_inherits_arguments() -> None:  # SC8
    text = "FROM b AS x\nARG A=1\nFROM x\nRUN true"
    assert variables(text)["A"] == "1"
    assert history(text)[-1] == "RUN |1 A=1 /bin/sh -c true # buildkit"


@pytest.mark.parametrize(
    ("parent", "child", "expected"),
    [
        pytest.param("ARG X=1\nENV X=2\nARG X=3", "", "2", id="env-of-the-parent-wins-again"),
        pytest.param("ENV X=2\nARG X=3", "ARG X=4", "4", id="an-arg-of-the-child-hides-it-again"),
        pytest.param("ENV X=2\nARG X=3", "ARG X", "2", id="a-bare-arg-does-not"),
        pytest.param("ENV X=2\nARG X=3", "FROM two AS three", "2", id="two-stages-down"),
        pytest.param("ARG X=3", "", "3", id="an-argument-alone-stays"),
    ],
)
def test_env_of_the_parent_stage_wins_over_its_arguments(parent: str, child: str, expected: str) -> None:
    text = f"FROM b AS one\n{parent}\nRUN echo $X\nFROM one AS two\n{child}\nENV Y=$X\nCOPY a /$X\nRUN y"
    assert variables(text)["X"] == expected
    assert env(text)["Y"] == expected
    assert history(text)[-2:] == [f"COPY a /{expected} # buildkit", f"RUN |1 X={expected} /bin/sh -c y # buildkit"]


def test_path_of_the_parent_stage_wins_over_its_argument() -> None:
    assert variables("FROM b AS one\nARG PATH=/zz\nFROM one\nRUN x")["PATH"] == "/bin"


def test_arg_path_is_for_run_only() -> None:  # SC9
    text = "FROM b\nARG PATH=/zz\nRUN x"
    assert variables(text)["PATH"] == "/zz"
    assert env(text)["PATH"] == "/bin"


def test_platform_argument_can_be_replaced() -> None:  # SC10
    assert variables("FROM b\nARG TARGETARCH=zzz\nRUN x")["TARGETARCH"] == "zzz"
    assert variables("FROM b\nARG TARGETARCH\nRUN x")["TARGETARCH"] == "amd64"
    assert variables("FROM b\nARG TARGETARCH\nRUN x", TARGETARCH="q")["TARGETARCH"] == "q"


def test_proxies_reach_run_and_nothing_else() -> None:  # SC11
    text = "FROM b\nENV X=$HTTP_PROXY\nRUN x"
    op = run(text, args={"HTTP_PROXY": "u"})
    assert op.proxy_env == (("HTTP_PROXY", "u"), ("http_proxy", "u"))
    assert dict(op.env) == {"PATH": "/bin", "X": ""}
    assert history(text, args={"HTTP_PROXY": "u"}) == ["ENV X=", "RUN /bin/sh -c x # buildkit"]
    assert plan(text, args={"HTTP_PROXY": "u"}).warnings == ()


def test_proxy_in_lower_case_wins_and_an_empty_one_is_none() -> None:
    given = {"HTTP_PROXY": "upper", "http_proxy": "lower", "no_proxy": ""}
    assert run("FROM b\nENV HTTP_PROXY=e\nRUN x", args=given).proxy_env == (
        ("HTTP_PROXY", "lower"),
        ("http_proxy", "lower"),
    )


def test_env_replaces_in_place() -> None:  # SC12
    assert config("FROM b\nENV A=1 B=2 C=3\nENV B=9 PATH=/x")["Env"] == ["PATH=/x", "A=1", "B=9", "C=3"]


def test_several_args_on_a_line_see_each_other() -> None:
    assert variables("FROM b\nARG a=1 b=$a c\nRUN x") == {"PATH": "/bin", "a": "1", "b": "1"}
    assert variables("ARG a=1 b=$a\nFROM b\nARG b\nRUN x")["b"] == "1"


def test_global_args_work_in_from_lines() -> None:
    resolver = DictResolver({"docker.io/library/i:v2": {}})
    assert plan("ARG V=1\nARG N=i:v$V\nFROM $N", args={"V": "2"}, resolver=resolver).images
    assert resolver.asked == [("docker.io/library/i:v2", "linux/amd64")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TARGETPLATFORM", "linux/arm/v7"),
        ("TARGETOS", "linux"),
        ("TARGETARCH", "arm"),
        ("TARGETVARIANT", "v7"),
        ("BUILDPLATFORM", "linux/amd64"),
        ("BUILDARCH", "amd64"),
        ("BUILDVARIANT", ""),
        ("TARGETSTAGE", "default"),
    ],
)
def test_platform_arguments(name: str, value: str) -> None:
    platforms = (Platform("linux", "arm", "v7"),)
    assert env(f"FROM b\nARG {name}\nENV X=$NAME Y=${name}", platforms=platforms)["Y"] == value


def test_target_stage_is_named() -> None:
    assert env("FROM b AS x\nARG TARGETSTAGE\nENV Y=$TARGETSTAGE", target="x")["Y"] == "x"


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [("AS Last", "", "last"), ("", "", "default"), ("AS Last", "first", "first"), ("", "first", "first")],
    ids=["last", "nameless", "target", "target-before-a-nameless-one"],
)
def test_target_stage_is_the_name_of_what_is_built(name: str, target: str, expected: str) -> None:
    body = "ARG TARGETSTAGE\nARG T\nENV Y=$TARGETSTAGE$T"
    text = f"ARG T=-$TARGETSTAGE\nFROM b AS first\n{body}\nFROM b {name}\n{body}"
    assert env(text, target=target)["Y"] == f"{expected}-{expected}"


def test_name_of_a_global_argument_is_taken_as_written() -> None:
    assert env('ARG a"=1 \nFROM b\nENV X=1')["X"] == "1"
    assert env("ARG $A=1 B=2\nFROM b\nARG B\nENV X=$B")["X"] == "2"
    assert "should not be blank" in failure('ARG "A"=b\nFROM $A').message


def test_scan_arguments_never_enter_the_environment() -> None:
    assert "BUILDKIT_SBOM_SCAN_STAGE" not in variables("FROM b\nARG BUILDKIT_SBOM_SCAN_STAGE=1\nRUN x")


def test_base_environment_is_visible_and_arg_overrides_it_in_the_stage() -> None:
    images = {"docker.io/library/i:latest": {"config": {"Env": ["PATH=/b", "J=/opt/j", "EMPTY="]}}}
    text = "FROM i\nENV X=$J\nARG J=2\nENV Y=$J"
    assert env(text, resolver=DictResolver(images)) == {
        "PATH": "/b",
        "J": "/opt/j",
        "EMPTY": "",
        "X": "/opt/j",
        "Y": "2",
    }


def test_undeclared_build_argument_is_reported_with_a_suggestion() -> None:
    warnings = plan("FROM b\nARG VERSION=1", args={"VERSOIN": "2"}).warnings
    assert [warning.message for warning in warnings] == [
        "build argument `VERSOIN` is not declared by any ARG instruction (did you mean VERSION?)"
    ]
    assert plan("FROM b AS x\nARG A\nFROM b", args={"A": "1", "SOURCE_DATE_EPOCH": "5"}).warnings == ()


@pytest.mark.parametrize(
    ("text", "args", "epoch"),
    [
        ("FROM b", {"SOURCE_DATE_EPOCH": "1000000000"}, 1_000_000_000),
        ("ARG SOURCE_DATE_EPOCH=7\nFROM b", {}, 7),
        ("FROM b\nARG SOURCE_DATE_EPOCH=7", {}, None),
        ("FROM b", {}, None),
    ],
)
def test_source_date_epoch(text: str, args: dict[str, str], epoch: int | None) -> None:
    assert plan(text, args=args).source_date_epoch == epoch


def test_platforms_have_their_own_values() -> None:
    result = plan("FROM b\nARG TARGETARCH\nENV A=$TARGETARCH", platforms=(AMD64, ARM64))
    assert [item.config["config"]["Env"][1] for item in result.images] == ["A=amd64", "A=arm64"]
    assert [item.config["architecture"] for item in result.images] == ["amd64", "arm64"]
    assert image("FROM b").platform == AMD64
