"""What every secret provider promises. Subclass `SecretProviderContract`, name the class and say where it finds a secret::

    class TestMine(SecretProviderContract):
        provider_class = MyProvider

        def put(self, content: bytes, environment: dict[str, str]) -> dict[str, str]:
            ...  # in the working directory, which is empty, or the environment; return what is typed behind `--secret id=token,`

The secret is called ``token``. Every content but an empty one is tried; override `contents` for what the place cannot hold.
"""

# ruff: noqa: D102, PT017 - a test's name is its claim
from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from img_core.forms.options import typed_options
from img_core.forms.words import key_values
from img_core.plugins._making import construct
from img_core.spec.errors import ImgError
from img_core.spec.secret import SECRET_LIMIT, SecretProvider
from img_core.testing.contracts.driver import DriverContract

__all__ = ["SecretProviderContract"]

NAME = "token"
CANARY = b"s3cret-canary"


class SecretProviderContract(DriverContract):
    """The promises of `img_core.spec.SecretProvider`, each as a test."""

    kind = "secret"
    holder = "provider_class"
    provider_class: ClassVar[type[SecretProvider]]
    samples: ClassVar[Mapping[str, str]] = {"there": "options of a secret that is there (`key=value,…`)"}
    #: what a secret may be: any bytes
    contents: ClassVar[tuple[bytes, ...]] = (
        CANARY,
        b" spaces \n\nand lines\r\n",
        "ünïcode".encode(),
        b"\x00\xff\xfe=,",
    )
    #: whether it can tell that a secret is not there; else such a secret is empty
    misses: ClassVar[bool] = True

    def put(self, content: bytes, environment: dict[str, str]) -> Mapping[str, Any]:
        """Keep a secret with *content*, in place of any other; return the options that name it, as they are typed."""
        del content, environment
        return {key: value or "" for key, value in key_values(self.sample("there"))}

    def missing(self) -> Mapping[str, Any]:
        """Return options that name a secret which is not there."""
        return {**self.put(CANARY, {}), "src": "not-there"}

    @pytest.fixture
    def environment(self) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin"}

    @pytest.fixture(autouse=True)
    def directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The empty directory in which the command runs."""
        if self.given_samples is None:
            directory = tmp_path / "here"
            directory.mkdir()
            monkeypatch.chdir(directory)
        return Path.cwd()

    def found(self, given: Mapping[str, Any], environment: Mapping[str, str]) -> SecretProvider:
        """Return the provider for a secret, made as the core does it."""
        options = typed_options(self.provider_class.schema, self.provider_class.complete(NAME, given), "the suite")
        made: SecretProvider = construct(self.kind, self.provider_class, (environment,), options)
        return made

    def test_a_secret_is_given_as_it_is(self, environment: dict[str, str]) -> None:
        for content in self._own((b"", *self.contents)):
            provider = self.found(self.put(content, environment), environment)
            provider.check()
            assert provider.get() == content
            assert provider.get() == content, "the second step that wants it gets it, too"

    def test_a_secret_of_the_limit_is_whole_and_a_larger_one_is_noticed(self, environment: dict[str, str]) -> None:
        (content,) = self._own((b"x" * SECRET_LIMIT,))
        assert self.found(self.put(content, environment), environment).get() == content
        provider = self.found(self.put(content + b"y", environment), environment)
        try:
            provider.check()
            assert len(provider.get()) > SECRET_LIMIT, "a secret that is cut is a wrong one"
        except ImgError as err:
            assert "\n" not in err.message

    def test_it_is_read_when_it_is_asked_for(self, environment: dict[str, str]) -> None:
        (later,) = self._own((b"later",))
        provider = self.found(self.put(CANARY, environment), environment)
        provider.check()
        self.put(later, environment)
        assert provider.get() == later

    def test_steps_ask_at_the_same_time(self, environment: dict[str, str]) -> None:
        provider = self.found(self.put(CANARY, environment), environment)
        expected = CANARY if self.given_samples is None else provider.get()
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _number: provider.get(), range(32))) == {expected}

    def test_what_is_not_there_is_an_error_of_one_line(self, environment: dict[str, str]) -> None:
        self._own(())
        provider = self.found(self.missing(), environment)  # to make it is no error
        if not self.misses:
            provider.check()
            assert provider.get() == b""
            return
        for ask in (provider.check, provider.get):
            with pytest.raises(ImgError) as caught:
                ask()
            assert "\n" not in caught.value.message
            assert caught.value.message.isprintable()

    def test_complete_options_are_text_and_stay_as_they_are(self, environment: dict[str, str]) -> None:
        given = dict(self.put(CANARY, environment))
        typed = dict(given)
        complete = self.provider_class.complete(NAME, given)
        assert given == typed, "what was typed is the caller's"
        assert json.loads(json.dumps(dict(complete))) == dict(complete)
        assert dict(self.provider_class.complete(NAME, complete)) == dict(complete)
        assert dict(self.provider_class.complete("another", complete)) == dict(complete), "they name it without its id"

    def test_complete_options_count_in_every_directory(
        self, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        provider = self.found(self.put(CANARY, environment), environment)
        expected = provider.get()
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        provider.check()
        assert provider.get() == expected

    def test_looking_changes_nothing(self, environment: dict[str, str], directory: Path) -> None:
        given = self.put(CANARY, environment)
        before = dict(environment), self._files(directory)
        self.provider_class.claims(NAME, given, environment)
        provider = self.found(given, environment)
        provider.check()
        provider.get()
        assert (dict(environment), self._files(directory)) == before

    def test_it_leaves_what_it_does_not_know_to_others(self, environment: dict[str, str]) -> None:
        claimed = self.provider_class.claims(NAME, self.put(CANARY, environment), environment)
        assert isinstance(claimed, bool)
        strange = {"x-of-nobody": "1", "env": "X", "src": "y"}
        if self.provider_class.claims(NAME, strange, environment):
            assert {"env", "src"} & set((self.provider_class.schema or {}).get("properties", ()))

    def test_the_secret_is_never_shown(self, environment: dict[str, str]) -> None:
        self._own(())
        given = self.put(CANARY, environment)
        provider = self.found(given, environment)
        provider.get()
        shown = f"{provider!r} {provider} {provider.options} {dict(self.provider_class.complete(NAME, given))}"
        assert CANARY.decode() not in shown

    def _own(self, contents: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return *contents*; the test is skipped where the suite cannot put a secret."""
        if self.given_samples is not None:
            pytest.skip("needs a subclass of the suite, which can put secrets there")
        return contents

    def _files(self, directory: Path) -> dict[str, bytes]:
        if self.given_samples is not None:
            return {}
        return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}
