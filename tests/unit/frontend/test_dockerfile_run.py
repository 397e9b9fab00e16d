"""RUN: argument vectors, environment, mounts (cases MT) and here-documents (cases HD)."""

import re
from typing import Any

import pytest
from frontend_support import DIGEST, env, history, image, key, run, vertices

from img_core.spec.errors import DockerfileError
from img_core.spec.graph import RunMount, RunOp, WriteFile
from img_frontend_dockerfile.syntax import flags
from img_frontend_dockerfile.syntax.flags import Flag
from img_frontend_dockerfile.syntax.mounts import MOUNT_OPTIONS, MountOption
from img_frontend_dockerfile.syntax.source import Fault


def mount(value: str, **options: Any) -> RunMount:
    """Return the mount of ``RUN --mount=value`` in a stage whose working directory is /w."""
    (found,) = run(f"FROM b AS s\nFROM b\nWORKDIR /w\nRUN --mount={value} x", **options).mounts
    return found


def test_exec_form_is_the_argument_vector() -> None:
    assert run('FROM b\nRUN ["echo","a b"]').args == ("echo", "a b")
    assert history('FROM b\nRUN ["echo","a b"]') == ["RUN echo a b # buildkit"]  # CF4


def test_shell_and_exec_form_of_the_same_command_are_one_step() -> None:  # CA6
    assert run("FROM b\nRUN echo x") == run('FROM b\nRUN ["/bin/sh","-c","echo x"]')


def test_shell_applies_to_later_commands() -> None:
    assert run('FROM b\nSHELL ["/bin/bash","-ec"]\nRUN x').args == ("/bin/bash", "-ec", "x")
    assert run('FROM b AS p\nSHELL ["/s"]\nFROM p\nRUN x').args == ("/s", "x")


def test_order_of_the_environment_counts() -> None:  # CA4
    first, second = run("FROM b\nENV A=1 B=2\nRUN x"), run("FROM b\nENV B=2 A=1\nRUN x")
    assert first != second
    assert dict(first.env) == dict(second.env)


def test_directory_user_and_network_are_taken_over() -> None:
    op = run("FROM b\nWORKDIR /a\nWORKDIR b/../c/\nUSER u:g\nRUN --network=none --security=insecure x")
    assert (op.cwd, op.user, op.network, op.security) == ("/a/c", "u:g", "none", "insecure")
    assert run("FROM b\nRUN x", network="host").network == "host"


def test_request_defaults_reach_every_run() -> None:
    options = {
        "extra_hosts": (("h", "10.0.0.1"),),
        "shm_size": 5,
        "ulimits": (("nofile", 1, 2),),
        "hostname": "me",
    }
    op = run("FROM b\nRUN x", **options)
    assert (op.extra_hosts, op.extra_host_addresses) == (("h",), ("10.0.0.1",))
    assert (op.shm_size, op.ulimits, op.hostname) == (5, (("nofile", 1, 2),), "me")
    assert run("FROM b\nRUN x", args={"BUILDKIT_SANDBOX_HOSTNAME": "z"}).hostname == "z"


def test_run_on_scratch_has_no_base() -> None:
    root = image("FROM scratch\nRUN x").root
    assert root is not None
    assert isinstance(root.op, RunOp)
    assert not root.op.has_base
    assert root.inputs == ()


def test_platform_is_part_of_run_and_images_but_not_of_files() -> None:
    with_platform = {vertex.name for vertex in vertices(image("FROM b\nCOPY a /a\nRUN x").root) if vertex.platform}
    assert with_platform == {f"[1/3] FROM docker.io/library/b:latest@{DIGEST}", "[3/3] RUN x"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("type=bind,target=/c", RunMount("bind", "/c", input=1, source="/"), id="MT1"),
        pytest.param("target=/c,rw", RunMount("bind", "/c", input=1, source="/", readonly=False), id="MT2"),
        pytest.param("target=/c,readwrite=false", RunMount("bind", "/c", input=1, source="/"), id="rw-false"),
        pytest.param("source=a.txt,target=/e/q", RunMount("bind", "/e/q", input=1, source="/a.txt"), id="MT3"),
        pytest.param("target=sub,source=d", RunMount("bind", "/w/sub", input=1, source="/d"), id="MT6"),
        pytest.param("src=../d,dst=/x/../y/", RunMount("bind", "/y", input=1, source="/d"), id="clean"),
        pytest.param('"target=/x"', RunMount("bind", "/x", input=1, source="/"), id="quoted-field"),
        pytest.param(
            "TYPE=cache,Target=/cc/",
            RunMount("cache", "/cc", readonly=False, id="/cc", mode=0o755),
            id="MT9-target",
        ),
        pytest.param(
            "type=cache,target=/x,id=/cc", RunMount("cache", "/x", readonly=False, id="/cc", mode=0o755), id="MT9-id"
        ),
        pytest.param(
            "type=cache,target=/x,id=n,sharing=locked,mode=0700,uid=5,gid=6,ro",
            RunMount("cache", "/x", id="n", sharing="locked", mode=0o700, uid=5, gid=6),
            id="cache-options",
        ),
        pytest.param(
            "type=cache,target=/x,from=s,source=q",
            RunMount("cache", "/x", input=1, source="/q", readonly=False, id="/x", mode=0o755),
            id="MT11",
        ),
        pytest.param(
            "type=cache,target=c/,sharing=Private",
            RunMount("cache", "/w/c", readonly=False, id="c", sharing="private", mode=0o755),
            id="relative-cache",
        ),
        pytest.param("type=bind,target=/c,id=q,env=E", RunMount("bind", "/c", input=1, source="/"), id="idle-keys"),
        pytest.param("type=tmpfs,target=/t,from=nope", RunMount("tmpfs", "/t", readonly=False), id="idle-from"),
        pytest.param("type=tmpfs,target=/t,size=1m", RunMount("tmpfs", "/t", readonly=False, size=1 << 20), id="MT22"),
        pytest.param("type=secret,id=n", RunMount("secret", "/run/secrets/n", id="n", mode=0o400), id="MT15"),
        pytest.param("type=secret,source=a/n", RunMount("secret", "/run/secrets/n", id="a/n", mode=0o400), id="source"),
        pytest.param("type=secret,id=n,target=rel", RunMount("secret", "/w/rel", id="n", mode=0o400), id="MT16"),
        pytest.param("type=secret,id=n,env=E", RunMount("secret", "", id="n", mode=0o400, env="E"), id="MT17"),
        pytest.param(
            "type=secret,id=n,env=E,target=/t,required,mode=0440,uid=1,gid=2",
            RunMount("secret", "/t", id="n", mode=0o440, env="E", required=True, uid=1, gid=2),
            id="MT17-both",
        ),
        pytest.param("type=secret,target=/x/s1", RunMount("secret", "/x/s1", id="s1", mode=0o400), id="MT20"),
        pytest.param(
            "type=ssh",
            RunMount("ssh", "/run/buildkit/ssh_agent.0", readonly=False, id="default", mode=0o600),
            id="ssh",
        ),
    ],
)
def test_mount(value: str, expected: RunMount) -> None:
    assert mount(value) == expected


def test_mounts_share_an_input() -> None:
    op = run("FROM b\nRUN --mount=target=/c --mount=source=d,target=/d x")
    assert [item.input for item in op.mounts] == [1, 1]


def test_stage_index_is_allowed_in_a_mount() -> None:  # MT7
    root = image("FROM b AS one\nRUN one\nFROM b\nRUN --mount=from=0,target=/x y").root
    assert root is not None
    assert root.inputs[1].name == "[one 2/2] RUN one"


def test_cache_namespace_prefixes_the_id() -> None:  # MT12
    assert mount("type=cache,target=/c", args={"BUILDKIT_CACHE_MOUNT_NS": "ns"}).id == "ns//c"


def test_id_and_sharing_of_a_cache_stay_out_of_the_key() -> None:  # MT14
    roots = [image(f"FROM b\nRUN --mount=type=cache,target=/c{more} x").root for more in ("", ",id=q,sharing=private")]
    assert roots[0] is not None
    assert roots[1] is not None
    assert key(roots[0]) == key(roots[1])
    assert roots[0].digest != roots[1].digest


@pytest.mark.parametrize("kind", ["secret", "ssh"])
def test_id_of_a_secret_is_in_the_key(kind: str) -> None:
    roots = [image(f"FROM b\nRUN --mount=type={kind},id={name},target=/c x").root for name in ("dev", "prod")]
    assert roots[0] is not None
    assert roots[1] is not None
    assert key(roots[0]) != key(roots[1])


def test_required_secret_is_another_step() -> None:  # CA17
    roots = [image(f"FROM b\nRUN --mount=type=secret,id=q{more} x").root for more in ("", ",required")]
    assert roots[0] is not None
    assert roots[1] is not None
    assert roots[0].digest != roots[1].digest


def test_secret_in_the_environment_is_hidden_in_the_name() -> None:  # MT17
    root = image("FROM b\nENV S=old\nRUN --mount=type=secret,id=n,env=S echo $S ${S}").root
    assert root is not None
    assert root.name.endswith("echo **** ****")


def test_ssh_sets_its_variable() -> None:  # MT21
    op = run("FROM b\nRUN --mount=type=ssh --mount=type=ssh,id=o x")
    assert dict(op.env)["SSH_AUTH_SOCK"] == "/run/buildkit/ssh_agent.0"
    assert [item.target for item in op.mounts] == ["/run/buildkit/ssh_agent.0", "/run/buildkit/ssh_agent.1"]


def test_mistake_in_a_mount_of_an_unneeded_stage_does_not_matter() -> None:
    assert image("FROM b\nRUN --mount=type=new,key=1 x\nFROM b").root is not None


def test_values_of_mounts_are_expanded() -> None:
    assert (
        run("FROM b\nARG T=/t\nRUN --mount=type=cache,target=$T,sharing=${U:-locked} x").mounts[0].sharing == "locked"
    )


def test_lone_heredoc_is_run_by_the_shell() -> None:  # HD1, HD13
    text = 'FROM b\nENV A=1\nRUN <<EOF\nfalse\necho "$A" \\\n\nEOF\n'
    assert run(text).args == ("/bin/sh", "-c", 'false\necho "$A" \\\n\n')
    assert run('FROM b\nSHELL ["/bin/sh","-ec"]\nRUN <<E\nx\nE').args == ("/bin/sh", "-ec", "x\n")


def test_delimiter_of_a_lone_heredoc_does_not_count() -> None:
    assert run("FROM b\nRUN <<A\nx\nA") == run("FROM b\nRUN <<-'B'\n\tx\nB")


def test_script_is_run_as_a_file() -> None:  # HD2
    root = image("FROM b\nRUN <<EOF\n#!/bin/sh -e\nx\nEOF").root
    assert root is not None
    assert isinstance(root.op, RunOp)
    assert root.op.args == ("/dev/pipes/EOF",)
    assert root.op.mounts == (RunMount("bind", "/dev/pipes/EOF", input=1, source="/script"),)
    script = root.inputs[1].op
    assert script.actions == (WriteFile("script", b"#!/bin/sh -e\nx\n", "/", mode="0755"),)  # type: ignore[union-attr]


def test_history_of_a_script_shows_the_shell() -> None:
    script = "RUN <<EOF\n#!/bin/sh -e\nx\nEOF"
    assert history(f"FROM b\n{script}") == ["RUN /bin/sh -c /dev/pipes/EOF # buildkit"]
    text = f'FROM b\nSHELL ["/bin/bash","-c"]\nARG A=1\n{script}'
    assert history(text)[-1] == "RUN |1 A=1 /bin/bash -c /dev/pipes/EOF # buildkit"


def test_hostile_script_name_stays_in_its_directory() -> None:
    assert run("FROM b\nRUN <<../../../etc/x\n#!/bin/sh\n../../../etc/x").args == ("/dev/pipes/x",)


@pytest.mark.parametrize(
    ("text", "shell"),
    [
        pytest.param("RUN <<EOF sh -s x\n$1\nEOF", "<<EOF sh -s x\n$1\nEOF", id="HD3"),
        pytest.param(
            "RUN <<F1 cat >/f1 && <<F2 cat >/f2\n1\nF1\n2\nF2",
            "<<F1 cat >/f1 && <<F2 cat >/f2\n1\nF1\n2\nF2",
            id="HD4",
        ),
        pytest.param("RUN cat 3<<'E' <&3\n$x\nE", "cat 3<<'E' <&3\n$x\nE", id="numbered"),
        pytest.param("RUN <<-E cat\n\t1\n\tE", "<<-E cat\n\t1\nE", id="tabs-are-left-to-the-shell"),
        pytest.param("RUN cat << E\n1\nE", "cat << E\n1\nE", id="blank-before-the-word"),
        pytest.param("RUN (cat <<E)\n1\nE", "(cat <<E)\n1\nE", id="shell-character-ends-the-word"),
        pytest.param('RUN echo "<<EOF"', 'echo "<<EOF"', id="HD10-quoted"),
        pytest.param("RUN cat <<<EOF", "cat <<<EOF", id="here-string"),
        pytest.param("RUN echo $(( 1 << 3 ))", "echo $(( 1 << 3 ))", id="HD11"),
        pytest.param("RUN echo $((1<<3))", "echo $((1<<3))", id="HD11-tight"),
    ],
)
def test_heredocs_of_a_command_go_to_the_shell(text: str, shell: str) -> None:
    assert run(f"FROM b\n{text}\n").args[2] == shell


def test_exec_form_has_no_heredocs() -> None:  # HD10
    assert run('FROM b\nRUN ["echo","<<EOF"]').args == ("echo", "<<EOF")


def test_nothing_of_the_builder_reaches_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEPARENT", "x")
    assert dict(run("FROM b\nRUN x").env) == env("FROM b") == {"PATH": "/bin"}


def test_a_mount_option_that_an_executor_carries_out_is_one_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = mount("type=tmpfs,target=/t")

    def even(key: str, value: str) -> None:
        if int(value) % 2:
            raise Fault(f"invalid value for {key}: {value}")

    new = MountOption("how many blocks", {"tmpfs": ""}, even, refusal="unexpected key '{key}' for {type}", carried=True)
    monkeypatch.setitem(MOUNT_OPTIONS, "blocks", new)
    found = mount("type=tmpfs,target=/t,blocks=4")
    assert found == RunMount("tmpfs", "/t", readonly=False, options=(("blocks", "4"),))
    assert mount("type=tmpfs,target=/t") == plain, "nothing else about a mount changed"
    for value, error in {
        "type=tmpfs,target=/t,blocks=3": "invalid value for blocks: 3",
        "type=bind,target=/t,blocks=4": "unexpected key 'blocks' for bind",
        "type=tmpfs,target=/t,block=4": "unexpected key 'block' in 'block=4' (did you mean blocks?)",
    }.items():
        with pytest.raises(DockerfileError, match=re.escape(error)):
            mount(value)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("sharing=foo,target=/x", 'unsupported sharing value "foo"'),
        ("sharing=,target=/x", 'unsupported sharing value ""'),
        ("sharing=LOCK,type=cache,target=/x", 'unsupported sharing value "LOCK" (did you mean locked?)'),
        ("type=cache,sharing=foo,sharing=shared,target=/x", 'unsupported sharing value "foo"'),
        ("type=tmpfs,sharing=SHARED,target=/x", "invalid cache sharing set for tmpfs mount"),
        ("type=secret,sharing=foo,id=a", 'unsupported sharing value "foo"'),
        ("type=secret,sharing=shared,id=a", "secret mount should not define sharing"),
        ("type=secret,sharing=shared,from=b", "secret mount should not have a from"),
        ("type=ssh,sharing=shared", "invalid cache sharing set for ssh mount"),
        ("mode=9,target=/x", "invalid value 9 for mode"),
        ("mode=7,target=/x", 'mode not allowed for "bind" type mounts'),
        ("type=cache,mode=,target=/x", "invalid value  for mode"),
        ("type=tmpfs,uid=a,target=/x", "invalid value a for uid"),
        ("type=tmpfs,uid=1,gid=a,target=/x", "invalid value a for gid"),
        ("type=tmpfs,gid=1,sharing=shared,target=/x", 'gid not allowed for "tmpfs" type mounts'),
        ("size=x,target=/x", "unexpected key 'size' for mount type 'bind'"),
        ("type=cache,required=x,target=/x", "unexpected key 'required' for mount type 'cache'"),
        ("type=tmpfs,size=x,size=1,target=/x", "invalid value for size: x"),
        ("ro=x,ro,target=/x", "invalid value for readonly: x"),
        ("type=FOO,type=bind,target=/x", 'unsupported mount type "FOO"'),
    ],
)
def test_of_a_mount_each_value_is_read_before_it_is_said_that_its_type_has_none(value: str, error: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        mount(value)
    assert str(caught.value).splitlines()[0].endswith(error)


@pytest.mark.parametrize(
    ("words", "readonly"), [("ro,rw", False), ("rw,ro", True), ("ro,rw,ro", True), ("rw,ro=0", False)]
)
def test_of_words_that_contradict_each_other_the_last_one_counts(words: str, readonly: bool) -> None:
    assert mount(f"target=/x,{words}").readonly is readonly


def test_a_flag_that_an_executor_carries_out_is_one_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    def key_of(text: str) -> str:
        root = image(text).root
        assert root is not None
        return key(root)

    before = key_of("FROM b\nRUN x")
    monkeypatch.setattr(flags, "FLAGS", (*flags.FLAGS, Flag("nice", ("RUN",), "how nice it is", carried=True)))
    assert run("FROM b\nRUN --nice=5 x").options == (("nice", "5"),)
    assert key_of("FROM b\nRUN x") == before, "what was recorded is found"
    assert key_of("FROM b\nRUN --nice=5 x") not in (before, key_of("FROM b\nRUN --nice=6 x"))
    with pytest.raises(DockerfileError, match="unknown flag: --nice"):
        run("FROM b\nCOPY --nice=5 x y\nRUN x")
