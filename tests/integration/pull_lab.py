"""Asking a registry for images, for tests of what it may answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from img_core.net.retry import Patience
from img_core.spec.graph import SourceOp
from img_core.spec.host import Host
from img_core.spec.registry import RegistryContext
from img_core.spec.source import PinnedImage, SourceContext
from img_core.spec.values import Credentials, Platform
from img_core.testing.faulty_registry import FaultyRegistry
from img_core.testing.images import SmallImage, make_image
from img_registry_oci._client import RegistryClient
from img_registry_oci._registry import OciRegistry
from img_source_image._source import RegistrySource

__all__ = [
    *("AMD64", "JOE", "QUICK", "SECRET", "Lookup", "layer_bytes", "pin", "source"),
    *("client", "image", "no_proxy_in_the_environment"),  # fixtures
]


AMD64 = Platform("linux", "amd64")
QUICK = Patience(first_pause=0.01, longest_pause=0.02, stall_seconds=1.5, total_seconds=30)


Lookup = Callable[[str, str], Credentials | None]


SECRET = "correct-horse-battery"


JOE = Credentials("joe", SECRET)


@pytest.fixture(autouse=True)
def no_proxy_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def image() -> SmallImage:
    return make_image([{"a": os.urandom(300_000)}, {"b": b"small"}])


@pytest.fixture
def client(faulty_registry: FaultyRegistry) -> Iterator[RegistryClient]:
    with RegistryClient(faulty_registry.address, limits=QUICK) as running:
        yield running


def source(credentials: Lookup = lambda *_: None, **context: Any) -> RegistrySource:
    def registry(*, insecure: Iterable[str] = (), brief: bool = False) -> OciRegistry:
        return OciRegistry(RegistryContext(os.environ, credentials, frozenset(insecure), brief))

    return RegistrySource(SourceContext(Host("none", "", "", registry=registry), **context))


def pin(reference: str, platform: Platform | None = AMD64, **context: Any) -> tuple[RegistrySource, PinnedImage]:
    images = source(**context)
    return images, images.pin(SourceOp("docker-image", reference), platform)


def layer_bytes(client: RegistryClient, image: SmallImage, number: int = 0) -> bytes:
    return b"".join(client.blob("app", image.layers[number]))
