"""pytest fixtures; switch them on with ``pytest_plugins = ["img_core.testing.fixtures"]`` in a ``conftest.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from img_core.testing.faulty_registry import FaultyRegistry
from img_core.testing.registry import Authority, DockerRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["authority", "faulty_registry", "login_registry", "registry", "tls_registry"]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Give a certificate authority that nobody trusts yet; set ``SSL_CERT_FILE`` to its certificate."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """Give an empty registry over plain HTTP."""
    with DockerRegistry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def tls_registry(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[DockerRegistry]:
    """Give an empty registry over TLS, with a certificate of `authority`."""
    with DockerRegistry(tmp_path_factory.mktemp("registry"), authority=authority) as running:
        yield running


@pytest.fixture
def login_registry(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[DockerRegistry]:
    """Give an empty registry over TLS that wants a login."""
    with DockerRegistry(tmp_path_factory.mktemp("registry"), authority=authority, login=True) as running:
        yield running


@pytest.fixture
def faulty_registry() -> Iterator[FaultyRegistry]:
    """Give a registry that misbehaves on command, over plain HTTP."""
    with FaultyRegistry() as running:
        yield running
