"""Secret providers against their contract, and which of them gets what people type."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from img_core.api import SecretSource
from img_core.api._secrets import SecretPlaces
from img_core.config import Config
from img_core.plugins import Plugins
from img_core.spec.errors import PluginError, UsageError
from img_core.spec.secret import SECRET_LIMIT, SecretProvider
from img_core.testing.contracts.secret import SecretProviderContract
from img_secret_env._env import VariableSecret
from img_secret_file._file import FileSecret


class TestFile(SecretProviderContract):
    provider_class = FileSecret

    def put(self, content: bytes, environment: dict[str, str]) -> dict[str, str]:
        Path("token.txt").write_bytes(content)
        return {"src": "token.txt"}


class TestFileCalledLikeTheSecret(TestFile):
    def put(self, content: bytes, environment: dict[str, str]) -> dict[str, str]:
        Path("token").write_bytes(content)
        return {}


class TestVariable(SecretProviderContract):
    provider_class = VariableSecret
    contents = tuple(content.replace(b"\0", b"") for content in SecretProviderContract.contents)
    misses = False

    def put(self, content: bytes, environment: dict[str, str]) -> dict[str, str]:
        environment["TOKEN"] = os.fsdecode(content)
        return {"env": "TOKEN"}

    def missing(self) -> Mapping[str, Any]:
        return {"env": "NOWHERE"}


class TestVariableOfOldWords(TestVariable):
    def put(self, content: bytes, environment: dict[str, str]) -> dict[str, str]:
        return {"src": super().put(content, environment)["env"]}


def places(tmp_path: Path, *off: str, **variables: str) -> SecretPlaces:
    environment = {"HOME": str(tmp_path), **variables}
    config = Config.load(
        environment=environment,
        no_plugins=off,
        distro_directory=str(tmp_path / "none"),
        admin_directory=str(tmp_path / "none"),
    )
    return SecretPlaces(Plugins(config), environment)


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_bytes(b"of the file")
    return str(tmp_path / "token")


#: what is given -> provider and options, with @ for the file
CHOICES = {
    "a file": (SecretSource(path="token"), "file", {"src": "@"}),
    "a file as typed": (SecretSource(options={"src": "token"}), "file", {"src": "@"}),
    "nothing, and a file is called so": (SecretSource(), "file", {"src": "@"}),
    "a variable": (SecretSource(variable="T"), "env", {"env": "T"}),
    "a variable and a file": (SecretSource(options={"env": "T", "src": "token"}), "env", {"env": "T"}),
    "the type of variables": (SecretSource(type="env"), "env", {"env": "token"}),
    "the type of variables, with the word for files": (SecretSource(type="env", options={"src": "T"}), "env", {"env": "T"}),
    "the type of files": (SecretSource(type="file"), "file", {"src": "@"}),
}  # fmt: skip


@pytest.mark.parametrize("what", CHOICES)
def test_who_has_a_secret_is_found_once_and_stays(what: str, token: str, tmp_path: Path) -> None:
    source, kind, options = CHOICES[what]
    expected = SecretSource(type=kind, options={key: text.replace("@", token) for key, text in options.items()})
    found = places(tmp_path)
    assert found.locate("token", source) == expected
    assert found.located({"other": expected}) == {"other": expected}


def test_a_variable_called_like_the_secret_goes_before_a_file(token: str, tmp_path: Path) -> None:
    found = places(tmp_path, token="of the variable")
    assert found.locate("token", SecretSource()).type == "env"
    readers = found.readers(
        {"token": SecretSource(), "file": SecretSource(path=token), "given": SecretSource(value=b"\0")}
    )
    assert {name: read() for name, read in readers.items()} == {
        "token": b"of the variable",
        "file": b"of the file",
        "given": b"\0",
    }


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        (SecretSource(type="b"), 'unsupported secret type "b"', "known: `env`, `file`"),
        (SecretSource(options={"foo": "b"}), "unknown option `foo` for secret `file`", None),
        (SecretSource(path="/nope"), "failed to stat /nope: no such file or directory", None),
    ],
)
def test_what_cannot_be_is_refused(
    source: SecretSource, message: str, hint: str | None, token: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        places(tmp_path).locate("token", source)
    assert caught.value.message == f"could not parse secrets: {message}"
    assert hint is None or caught.value.hint == hint


def test_a_secret_that_is_too_large_is_told_before_the_build(token: str, tmp_path: Path) -> None:
    Path(token).write_bytes(b"x" * SECRET_LIMIT)
    assert places(tmp_path).locate("a", SecretSource(path=token))
    Path(token).write_bytes(b"x" * (SECRET_LIMIT + 1))
    with pytest.raises(UsageError, match=r"token` too big\. max size 500KiB"):
        places(tmp_path).locate("a", SecretSource(path=token))


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is not a regular file"):
        FileSecret({}, {"src": str(tmp_path / "pipe")}).get()
    assert FileSecret({}, {"src": "/dev/null"}).get() == b""


@pytest.mark.parametrize(
    ("off", "source"),
    [
        ("secret:env", SecretSource(variable="T")),
        ("secret:env", SecretSource(type="env")),
        ("secret:file", SecretSource(path="token")),
        ("secret:*", SecretSource()),
    ],
)
def test_what_is_off_is_named(off: str, source: SecretSource, token: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"^secret `(env|file)` is switched off by --no-plugin$"):
        places(tmp_path, off).locate("token", source)


def test_a_file_is_taken_where_variables_are_off(token: str, tmp_path: Path) -> None:
    assert places(tmp_path, "secret:env", token="x").locate("token", SecretSource()).options == {"src": token}


def test_a_provider_claims_nothing_and_keeps_options_unless_it_says_so() -> None:
    class Given(SecretProvider):
        """Gives one secret."""

        name = "given"

        def get(self) -> bytes:
            return b"x"

    assert not Given.claims("token", {}, {"token": "x"})
    assert Given.complete("token", {"a": "b"}) == {"a": "b"}
    Given({}).check()
