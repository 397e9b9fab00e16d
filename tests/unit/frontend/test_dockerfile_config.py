"""Image config and history: cases CF and WU of the Dockerfile specification, and the metadata instructions."""

import pytest
from frontend_support import BUSYBOX, DictResolver, actions, config, env, failure, history, image, run

from img_core.spec.graph import MakeDirectory
from img_frontend_dockerfile.planning.config import DEFAULT_PATH

BASE = {
    "author": "A",
    "architecture": "amd64",
    "os": "linux",
    "created": "2020-01-01T00:00:00Z",
    "config": {
        "Env": ["A=1", "PATH=/p"],
        "Labels": {"l": "1"},
        "Cmd": ["c"],
        "Entrypoint": ["e"],
        "User": "u",
        "WorkingDir": "/wd",
        "Volumes": {"/v": {}},
        "ExposedPorts": {"1/tcp": {}},
        "Healthcheck": {"Test": ["NONE"]},
        "Shell": ["/s"],
        "StopSignal": "TERM",
    },
    "history": [{"created_by": "one", "empty_layer": True}, {"created_by": "two"}],
}
RESOLVER = DictResolver({"docker.io/library/base:latest": BASE})


def test_config_is_inherited() -> None:
    result = image("FROM base\nLABEL m=2", resolver=RESOLVER)
    expected = {**BASE["config"], "Labels": {"l": "1", "m": "2"}}  # type: ignore[dict-item]  # a literal above
    assert result.config == {"author": "A", "architecture": "amd64", "os": "linux", "config": expected}
    assert [entry.document for entry in result.history] == [*BASE["history"], None]  # type: ignore[misc]
    assert result.base is not None
    assert result.base.reference == "docker.io/library/base:latest"


def test_damaged_config_of_a_base_counts_as_empty() -> None:
    images = {
        "docker.io/library/x:latest": {"config": {"Env": 5, "Cmd": "x", "Labels": [1], "OnBuild": None}, "history": 1}
    }
    assert config("FROM x", resolver=DictResolver(images)) == {"Env": [f"PATH={DEFAULT_PATH}"]}


def test_arguments_in_history() -> None:  # CF1
    assert history("FROM b\nARG A=1\nARG B\nRUN true") == [
        "ARG A=1",
        "ARG B",
        "RUN |2 A=1 B= /bin/sh -c true # buildkit",
    ]


def test_env_shows_in_the_argument_prefix() -> None:  # CF2
    assert history("FROM b\nARG A=1\nENV A=2\nRUN true")[-1] == "RUN |1 A=2 /bin/sh -c true # buildkit"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        pytest.param("CMD echo x", 'CMD ["/bin/sh" "-c" "echo x"]', id="CF5"),
        pytest.param('ENTRYPOINT ["a","b\\"c"]', 'ENTRYPOINT ["a" "b\\"c"]', id="CF5-entrypoint"),
        pytest.param("EXPOSE 80 53/udp", "EXPOSE [53/udp 80/tcp]", id="CF6-expose"),
        pytest.param("EXPOSE 80-82", "EXPOSE [80/tcp 81/tcp 82/tcp]", id="expose-range"),
        pytest.param("VOLUME /a /b", "VOLUME [/a /b]", id="CF6-volume"),
        pytest.param('VOLUME ["/a b"]', "VOLUME [/a b]", id="volume-json"),
        pytest.param('SHELL ["x","y"]', "SHELL [x y]", id="CF6-shell"),
        pytest.param(
            "HEALTHCHECK --interval=5m --timeout=3s --start-period=1s --start-interval=2s --retries=4 CMD x",
            "HEALTHCHECK {Test:[CMD-SHELL x] Interval:5m0s Timeout:3s StartPeriod:1s StartInterval:2s Retries:4}",
            id="CF7",
        ),
        pytest.param(
            "HEALTHCHECK NONE",
            "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
            id="CF7-none",
        ),
        pytest.param('ENV A=1 B="x y"', "ENV A=1 B=x y", id="CF9"),
        pytest.param("LABEL a=1 'b c'=2", "LABEL a=1 b c=2", id="label"),
        pytest.param("STOPSIGNAL SIGRTMIN+3", "STOPSIGNAL SIGRTMIN+3", id="signal"),
        pytest.param("USER u:g", "USER u:g", id="user"),
        pytest.param("MAINTAINER J", "MAINTAINER J", id="CF15"),
    ],
)
def test_history_text(line: str, text: str) -> None:
    (entry,) = [entry for entry in image(f"FROM b\n{line}").history if entry.document is None]
    assert (entry.created_by, entry.comment, entry.vertex) == (text, "buildkit.dockerfile.v0", None)


def test_layers_have_their_vertex_in_history() -> None:
    result = image("FROM b\nRUN x\nCOPY a /\nWORKDIR /w\nENV A=1\nWORKDIR /")
    assert [entry.vertex is not None for entry in result.history[1:]] == [True, True, True, False, False]
    assert result.history[3].vertex is result.root


def test_relative_workdir_is_joined() -> None:  # CF8
    assert history("FROM b\nWORKDIR /a\nWORKDIR b") == ["WORKDIR /a", "WORKDIR /a/b"]


def test_entrypoint_drops_an_inherited_cmd_only() -> None:  # CF10
    assert "Cmd" not in config('FROM b AS p\nCMD ["x"]\nFROM p\nENTRYPOINT ["e"]')
    assert config('FROM b\nCMD ["x"]\nENTRYPOINT ["e"]')["Cmd"] == ["x"]


def test_empty_lists_remove() -> None:  # CF11
    result = config('FROM b AS p\nCMD ["x"]\nENTRYPOINT ["e"]\nFROM p\nENTRYPOINT []')
    assert "Entrypoint" not in result
    assert "Cmd" not in result
    assert "Cmd" not in config("FROM b\nCMD []")


def test_author() -> None:  # CF15
    assert image('FROM b\nMAINTAINER J "x" <j@x>').config["author"] == 'J "x" <j@x>'


def test_scratch() -> None:  # CF16
    result = image("FROM scratch")
    assert result.root is None
    assert result.history == ()
    assert result.base is None
    assert result.config["config"] == {"Env": [f"PATH={DEFAULT_PATH}"], "WorkingDir": "/"}


def test_missing_path_is_added() -> None:
    images = {"docker.io/library/x:latest": {"config": {"Env": ["A=1"]}}}
    assert config("FROM x", resolver=DictResolver(images))["Env"] == ["A=1", f"PATH={DEFAULT_PATH}"]


def test_cmd_is_marked_as_escaped() -> None:
    assert config("FROM b\nCMD x")["ArgsEscaped"] is True
    assert "ArgsEscaped" not in config("FROM b\nENTRYPOINT x")


def test_labels_of_the_request_are_literal_and_last() -> None:
    assert config("FROM b\nENV X=1\nLABEL a=1 b=2", labels={"a": "$X", "c": ""})["Labels"] == {
        "a": "$X",
        "b": "2",
        "c": "",
    }
    assert history("FROM b", labels={"a": "1"}) == []


def test_health_check_document() -> None:
    text = 'FROM b\nSHELL ["/x"]\nHEALTHCHECK --interval=1m30.5s --retries=0 cmd ["a","b"]'
    assert config(text)["Healthcheck"] == {"Test": ["CMD", "a", "b"], "Interval": 90_500_000_000}
    assert config("FROM b\nHEALTHCHECK --interval=0 CMD x")["Healthcheck"] == {"Test": ["CMD-SHELL", "x"]}


@pytest.mark.parametrize(
    ("line", "ports"),
    [
        ("EXPOSE 80/TCP 80/udp", ["80/tcp", "80/udp"]),
        ("EXPOSE 127.0.0.1:8080:80", ["80/tcp"]),
        ("EXPOSE 10-11:20-21/sctp", ["20/sctp", "21/sctp"]),
        ("EXPOSE [::1]:5:6", ["6/tcp"]),
    ],
)
def test_ports(line: str, ports: list[str]) -> None:
    assert list(config(f"FROM b\n{line}")["ExposedPorts"]) == ports


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("8-10", "8/tcp 9/tcp 10/tcp"),
        ("80 9 80/TCP", "80/tcp 80/tcp 9/tcp"),
        ("$P 7", "70/tcp 6/udp 7/tcp"),
        ("1-2:30-31 +5 007", "5/tcp 7/tcp 30/tcp 31/tcp"),
    ],
)
def test_history_has_the_ports_in_the_order_of_the_sorted_arguments(arguments: str, shown: str) -> None:
    assert history(f'FROM b\nENV P="70 6/udp"\nEXPOSE {arguments}')[-1] == f"EXPOSE [{shown}]"


@pytest.mark.parametrize(
    ("port", "message"),
    [
        ("80:", 'invalid port: "80:": no port specified'),
        ("/tcp", 'invalid port: "/tcp": no port specified'),
        ("80/tcp/udp", 'invalid port: "80/tcp/udp": invalid proto: tcp/udp'),
        ("here:80", "invalid hostPort: here"),
        ("90-80:80", "invalid hostPort: 90-80"),
        ("10:20-21", "invalid ranges specified for container and host Ports: 20-21 and 10"),
        ("here:1:80", "invalid IP address: here"),
        ("1.2.3:1:80", "invalid IP address: 1.2.3"),
        ("[::x]::80", "invalid IP address: [::x]"),
        ("-1", "invalid containerPort: -1"),
    ],
)
def test_port_that_cannot_be(port: str, message: str) -> None:
    assert failure(f"FROM b\nEXPOSE {port}").message == message


def test_name_of_an_argument_is_as_written() -> None:
    text = "FROM b\nENV X=x\nARG $X=1 'a'=2 \"b\" c$\nRUN y"
    arguments = {"$X": "1", "'a'": "2"}
    assert dict(run(text).env).items() >= arguments.items()
    assert history(text)[1:] == [
        "ARG $X=1 'a'=2 \"b\" c$",
        "RUN |4 $X=1 'a'=2 \"b\"= c$= /bin/sh -c y # buildkit",
    ]


def test_features_of_the_base_stay() -> None:
    base = {"docker.io/library/f:latest": {"os.features": ["win32k"], "config": {}}}
    assert image("FROM f", resolver=DictResolver(base)).config["os.features"] == ["win32k"]


@pytest.mark.parametrize("signal", ["9", "99", "+15", "TERM", "SIGTERM", "sigkill", "SIGRTMIN+3", "rtmax-2", "RTMIN"])
def test_stop_signal_is_stored_as_given(signal: str) -> None:
    assert config(f"FROM b\nSTOPSIGNAL {signal}")["StopSignal"] == signal


def test_working_directories() -> None:  # WU1
    lines = ["FROM b", "WORKDIR a", "WORKDIR b/../c", "WORKDIR /d/./e/", "WORKDIR .."]
    found = [config("\n".join(lines[: count + 1]))["WorkingDir"] for count in range(1, 5)]
    assert found == ["/a", "/a/c", "/d/./e/", "/d"]
    assert run("FROM b\nWORKDIR /d/./e/\nRUN x").cwd == "/d/e"


@pytest.mark.parametrize(
    ("path", "layer"), [("/", False), ("..", False), ("", False), ("//", True), ("/.", True), ("/a/..", True)]
)
def test_only_the_plain_root_makes_no_layer(path: str, layer: bool) -> None:
    found = image(f'FROM b\nWORKDIR "{path}"').history[-1]
    assert (found.vertex is not None) is layer


def test_workdir_with_an_unset_variable() -> None:  # WU2
    assert config("FROM b\nENV D=/x\nWORKDIR $D/$UNSET")["WorkingDir"] == "/x/"


def test_workdir_is_owned_by_the_user() -> None:  # WU3
    assert actions("FROM b\nUSER 5:6\nWORKDIR /own/new") == (MakeDirectory("/own/new", 0o755, "5:6"),)


def test_root_as_workdir_makes_no_layer() -> None:  # WU6
    result = image("FROM b\nWORKDIR /")
    assert result.history[-1].created_by == "WORKDIR /"
    assert result.history[-1].vertex is None


@pytest.mark.parametrize(("line", "user"), [("USER $UNSET", None), ("USER :5", ":5"), ("USER nosuch", "nosuch")])
def test_user_is_stored_as_given(line: str, user: str | None) -> None:  # WU10, WU11, WU12
    assert config(f"FROM b\nUSER x\n{line}").get("User") == user


def test_home_is_not_touched_by_user() -> None:  # WU13
    assert env("FROM b\nENV HOME=/foo\nUSER u")["HOME"] == "/foo"


def test_child_stage_does_not_change_its_parent() -> None:
    text = "FROM b AS p\nENV A=1\nLABEL l=1\nFROM p AS c\nENV A=2\nLABEL l=2\nVOLUME /v\nFROM p"
    assert config(text) == {**BUSYBOX["config"], "Env": ["PATH=/bin", "A=1"], "Labels": {"l": "1"}}
