"""The flags of build: Go's csv, outputs, and the words of refusals."""

from __future__ import annotations

import csv
import io
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img_core.api import SecretSource
from img_core.cli._amounts import size
from img_core.cli.build._outputs import output_name, parse_output
from img_core.cli.build._secrets import SshGrant, parse_secrets, parse_ssh
from img_core.cli.build._ssh_agent import agents
from img_core.cli.build._values import parse_build_args, parse_hosts, parse_labels, parse_ulimits
from img_core.forms.words import split_record
from img_core.spec import UsageError

if TYPE_CHECKING:
    from unit.cli.conftest import Run


@pytest.mark.parametrize(
    ("text", "kind", "options"),
    [
        ("type=tar,dest=out.tar", "tar", {"dest": "out.tar"}),
        ("TYPE=oci,Dest=Out.tar", "oci", {"dest": "Out.tar"}),
        ('type=image,"name=a,b"', "image", {"name": "a,b"}),
        ("type=image,name=x=y", "image", {"name": "x=y"}),
        ("out", "local", {"dest": "out"}),
        ("-", "tar", {"dest": "-"}),
        ("type=tar,dest=-", "tar", {"dest": "-"}),
    ],
)
def test_outputs(text: str, kind: str, options: dict[str, str]) -> None:
    output = parse_output(text)
    assert (output.type, output.options) == (kind, options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "`--output` is empty"),
        ("type=tar,foo", "invalid value foo"),
        ("dest=x", "--output requires type=<type>"),
        ("type=tar,output=x", "output=x not supported for --output, you meant dest=x?"),
        ("type=local", "invalid output option: output: output directory is required for local exporter"),
        ("type=image,dest=x", "invalid output option: output: output x is not supported by image exporter"),
        ('type=image,name="a,b"', 'parse error on line 1, column 17: bare " in non-quoted field'),
        ('"type=tar', 'parse error on line 1, column 10: extraneous or missing " in quoted-field'),
        ('"type=tar"x', 'parse error on line 1, column 11: extraneous or missing " in quoted-field'),
    ],
)
def test_bad_outputs_are_refused_in_the_known_words(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_output(text)
    assert caught.value.message == message


@given(st.lists(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"])), min_size=1))
def test_what_another_csv_writer_quotes_is_read_back(fields: list[str]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="", quoting=csv.QUOTE_ALL).writerow(fields)
    assert split_record(buffer.getvalue()) == fields


def test_the_name_shown_is_the_first_of_the_outputs() -> None:
    assert output_name([parse_output("out"), parse_output("type=image,name=b")]) == "b"


def test_build_arguments_without_a_value_come_from_the_environment() -> None:
    assert parse_build_args(["A=1", "B=", "C", "A=x=y"]) == {"A": "x=y", "B": "", "C": None}


def test_labels_without_a_value_are_empty() -> None:
    assert parse_labels(["a=1", "b"]) == {"a": "1", "b": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1.2.3.4", [("a", "1.2.3.4")]), ("a:1.2.3.4", [("a", "1.2.3.4")]), ("a:::1", [("a", "::1")]),
        ("a=[2001:db8::1]", [("a", "2001:db8::1")]), ("a=1.1.1.1,2.2.2.2", [("a", "1.1.1.1"), ("a", "2.2.2.2")]),
    ],
)  # fmt: skip
def test_hosts(text: str, expected: list[tuple[str, str]]) -> None:
    assert list(parse_hosts([text])) == expected


@pytest.mark.parametrize("text", ["a", "a=", "=1.2.3.4", "a=1.2.3", "a=b"])
def test_bad_hosts_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_hosts([text])


def test_sizes_and_limits() -> None:
    assert [size(text, "x") for text in ("64m", "1g", "10", "1.5KiB", "2 MB")] == [
        64 << 20, 1 << 30, 10, 1536, 2 << 20,
    ]  # fmt: skip
    assert parse_ulimits(["nofile=1:2", "core=unlimited", "nproc=5"]) == (
        ("nofile", 1, 2), ("core", -1, -1), ("nproc", 5, 5),
    )  # fmt: skip


@pytest.mark.parametrize("text", ["nofile", "nofile=x", "nofile=2:1", "=1"])
def test_bad_limits_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_ulimits([text])


def test_secrets_are_what_was_typed_for_their_providers() -> None:
    texts = [
        "id=a,src=token",
        "id=b,env=B",
        "id=c,type=env",
        "id=token",
        "id=d,source=token",
        "id=e,type=env,src=E",
        "id=f,type=file,env=F",
        "id=g,type=vault,path=a,KEY=x",
        "id=a,src=last",
    ]
    assert parse_secrets(texts) == {
        "a": SecretSource(options={"src": "last"}),
        "b": SecretSource(options={"env": "B"}),
        "c": SecretSource(type="env"),
        "token": SecretSource(),
        "d": SecretSource(options={"src": "token"}),
        "e": SecretSource(type="env", options={"src": "E"}),
        "f": SecretSource(options={"env": "F"}),  # as for docker, the variable counts
        "g": SecretSource(type="vault", options={"path": "a", "key": "x"}),
    }


def test_ssh_takes_one_socket_or_some_keys(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent"))
        (tmp_path / "key").write_text("")
        agent, key = str(tmp_path / "agent"), str(tmp_path / "key")
        grants = parse_ssh(["default", f"a={key},{key}", f"b={agent}"], {"SSH_AUTH_SOCK": agent})
        assert grants == {"default": SshGrant(agent), "a": SshGrant(keys=(key, key)), "b": SshGrant(agent)}
        with pytest.raises(UsageError, match="only single socket allowed"):
            parse_ssh([f"a={key},{agent}"], {})


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["default"], "invalid empty ssh agent socket, make sure SSH_AUTH_SOCK is set"),
        (["a=/nope"], "failed to stat /nope: no such file or directory"),
        (["a=/dev/null", "a=/dev/null"], "invalid duplicate ID a"),
    ],
)
def test_bad_ssh_is_refused(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_ssh(texts, {})
    assert caught.value.message == message


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key without passphrase, readable by everybody."""
    path = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test-key", "-f", str(path)], check=True)
    path.chmod(0o644)
    return path


def test_an_agent_of_our_own_has_the_keys_and_ends_with_the_block(key: Path) -> None:
    with agents({"a": SshGrant(keys=(str(key),))}) as found:
        path = found["a"].path
        listed = subprocess.run(
            ["ssh-add", "-l"], env={**os.environ, "SSH_AUTH_SOCK": path}, capture_output=True, check=True
        )
        assert b"test-key" in listed.stdout
    assert not os.path.exists(os.path.dirname(path))
    assert path.encode() not in b"".join(_command_lines())


def _command_lines() -> list[bytes]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes())
        except OSError:  # it ended meanwhile
            continue
    return found


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("no key")
    with pytest.raises(UsageError, match="as ssh key"), agents({"a": SshGrant(keys=(str(tmp_path / "key"),))}):
        pass


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["-t", "x@sha256:" + "0" * 64, "."],
            f'invalid argument "x@sha256:{"0" * 64}" for "-t, --tag" flag: a name with a digest',
        ),
        (
            ["-t", "sha256:1", "."],
            'invalid argument "sha256:1" for "-t, --tag" flag: `sha256` is the name of a digest algorithm',
        ),
        (["-t", "x", ""], 'please specify build context (e.g. "." for the current directory)'),
        (["-t", "UPPER", "."], 'invalid argument "UPPER" for "-t, --tag" flag: invalid reference format: '),
        (["-t", "x", "-f", "-", "-"], "context and Dockerfile cannot both come from standard input"),
        (["-t", "x", "--network", "bridge", "."], "unknown network `bridge`"),
        (["-t", "x", "--cache-from", "type=local,a", "."], "invalid value of `--cache-from`: `a`"),
        (["-t", "x", "--cache-to", "dest=a", "."], "`--cache-to` requires type=<type>"),
        (["-t", "x", "--provenance", "max", "."], "`--provenance` is not yet supported"),
        (["-t", "x", "--secret", "FOO", "."], "could not parse secrets: invalid field 'FOO' must be a key=value pair"),
        (["-t", "x", "--secret", "src=FOO", "."], "could not parse secrets: secret missing ID"),
        (["-t", "x", "--secret", "id=a,type=b", "."], 'could not parse secrets: unsupported secret type "b"'),
        (["-t", "x", "--secret", "id=a,foo=b", "."], "could not parse secrets: unknown option `foo` for secret `file`"),
        (["-t", "x", "--secret", "id=a,src=/nope", "."], "could not parse secrets: failed to stat /nope: no such file"),
        (["-t", "x", "--build-context", "a", "."], "invalid context value a"),
        (["-t", "x", "--build-arg", "=1", "."], "invalid build-arg value =1"),
        (["-o", "type=tar", "--iidfile", "i", "."], "`--iidfile` needs an image"),
    ],
)
def test_bad_command_lines_stop_before_any_work(words: list[str], message: str, run: Run, tmp_path: Path) -> None:
    done = run("build", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: {message}")
    assert done.stdout == ""
    assert not (tmp_path / ".local").exists()
