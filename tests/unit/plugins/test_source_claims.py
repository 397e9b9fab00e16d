"""What users write for a build context, and which of our sources it is for: never two, and a path is for none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from img_core.api._contexts import Addresses, NamedContext
from img_core.config import Config
from img_core.plugins import Plugins
from img_core.spec.errors import PluginError

ADDRESSES = [
    ("docker-image://alpine:3", "docker-image", "alpine:3"),
    ("docker-image://docker-image://x", "docker-image", "docker-image://x"),
    ("oci-layout:///a/../b:tag", "oci-layout", "/b:tag"),
    ("oci-layout://here", "oci-layout", os.path.abspath("here")),
    ("https://h/x.git#main", "git", "https://h/x.git#main"),
    ("git@h:o/r", "git", "git@h:o/r"),
    ("ssh://git@h/r", "git", "ssh://git@h/r"),
    ("github.com/o/r", "git", "github.com/o/r"),
    ("https://h/x.tar", "https", "https://h/x.tar"),
    ("http://h/x.git/", "https", "http://h/x.git/"),
    ("HTTP://h/x", None, ""),
    ("ftp://h/x", None, ""),
    ("local://x", None, ""),
    ("here", None, ""),
    ("./a:b", None, ""),
]


@pytest.fixture
def plugins(tmp_path: Path) -> Plugins:
    return Plugins(Config(str(tmp_path), str(tmp_path)))


@pytest.mark.parametrize(("address", "kind", "reference"), ADDRESSES)
def test_an_address_is_for_one_source(plugins: Plugins, address: str, kind: str | None, reference: str) -> None:
    claims = {name: plugins.driver("source", name).claims(address) for name in plugins.names("source")}
    assert {name: claim for name, claim in claims.items() if claim is not None} == ({kind: reference} if kind else {})
    assert Addresses(plugins).any(address) == (NamedContext(kind, reference) if kind else None)


def test_images_are_no_context_and_repositories_no_definition(plugins: Plugins) -> None:
    addresses = Addresses(plugins)
    assert addresses.tree("docker-image://alpine") is None
    assert addresses.tree("https://h/x.git", one_file=True) is None
    assert addresses.tree("https://h/Dockerfile", one_file=True) == NamedContext("https", "https://h/Dockerfile")


def test_for_a_path_that_is_there_no_source_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = Plugins(Config(str(tmp_path), str(tmp_path)))
    monkeypatch.setattr(plugins, "driver", None)
    assert Addresses(plugins).any(str(tmp_path)) is None


@pytest.mark.parametrize("address", ["https://u:secret@h/x.git", "git@h:o/r", "github.com/o/r"])
def test_an_address_of_a_source_that_is_off_says_who_did_it(tmp_path: Path, address: str) -> None:
    plugins = Plugins(Config(str(tmp_path), str(tmp_path), no_plugins=("source:git",)))
    with pytest.raises(PluginError, match="source `git` is switched off by --no-plugin") as caught:
        Addresses(plugins).any(address)
    assert "secret" not in caught.value.message
    assert Addresses(plugins).any("no-such-directory") is None
