"""What every registry driver promises. Subclass `RegistryContract`, name the class and say where an empty repository is::

class TestMine(RegistryContract):
    registry_class = MyRegistry

    @pytest.fixture
    def domain(self) -> Iterator[str]:
        with my_server() as address:
            yield address
"""

# ruff: noqa: D102 - a test's name is its claim
from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import ClassVar

import pytest

from img_core.images import oci
from img_core.spec.errors import Canceled, IntegrityError, NotFoundError
from img_core.spec.registry import Registry, RegistryContext, Uploaded
from img_core.spec.values import Descriptor, Digest
from img_core.testing.contracts.driver import DriverContract
from img_core.testing.images import SmallImage, make_image
from img_core.testing.processes import CEILING, LARGE, at_once, kill_when_told, memory_growth

__all__ = ["RegistryContract"]

_CONTENT = bytes(range(256)) * 4000  # a megabyte


class RegistryContract(DriverContract):
    """The promises of `img_core.spec.Registry`, each as a test."""

    kind = "registry"
    holder = "registry_class"
    registry_class: ClassVar[type[Registry]]
    samples: ClassVar[Mapping[str, str]] = {"domain": "`host[:port]` of an empty registry"}

    @pytest.fixture
    def domain(self) -> str | Iterator[str]:
        """The ``host[:port]`` of a registry that holds nothing and is gone afterwards."""
        return self.sample("domain")

    @pytest.fixture
    def registry(self, domain: str) -> Iterator[Registry]:
        with self.made(RegistryContext()) as running:
            yield running

    @pytest.fixture
    def app(self, domain: str) -> str:
        return f"{domain}/org/app"

    def test_what_was_put_is_fetched_by_tag_and_by_digest(self, registry: Registry, app: str) -> None:
        image = self._push(registry, app, "1")
        assert registry.resolve(app, "1") in (image.top.digest, None)
        for reference in ("1", image.top.digest):
            fetched = registry.fetch_document(app, reference)
            assert (fetched.content, fetched.digest) == (image.content, image.top.digest)

    def test_what_is_not_there_is_not_found(self, registry: Registry, app: str) -> None:
        self._push(registry, app, "1")
        blob = Descriptor(oci.OCI_LAYER, oci.digest(b"other"), 5)
        for ask in (
            lambda: registry.fetch_document(app, "2"),
            lambda: registry.fetch_document(app, blob.digest),
            lambda: list(registry.fetch_blob(app, blob)),
        ):
            with pytest.raises(NotFoundError):
                ask()

    def test_a_blob_is_sent_once(self, registry: Registry, app: str) -> None:
        blob = _blob(_CONTENT)
        assert registry.upload(app, blob, _reader(_CONTENT)) is Uploaded.SENT
        assert registry.upload(app, blob, lambda _offset: pytest.fail("sent again")) is Uploaded.EXISTED

    def test_a_blob_of_a_neighbour_comes_whole(self, registry: Registry, app: str, domain: str) -> None:
        blob = _blob(_CONTENT)
        registry.upload(app, blob, _reader(_CONTENT))
        way = registry.upload(f"{domain}/other", blob, _reader(_CONTENT), mount_from=app)
        assert way in (Uploaded.MOUNTED, Uploaded.SENT)  # a registry need not mount
        assert _same(registry.fetch_blob(f"{domain}/other", blob), _CONTENT)

    @pytest.mark.parametrize("start", [1, len(_CONTENT) // 2, len(_CONTENT) - 1])
    def test_a_blob_is_given_from_any_byte_on(self, registry: Registry, app: str, start: int) -> None:
        blob = _blob(_CONTENT)
        registry.upload(app, blob, _reader(_CONTENT))
        assert _same(registry.fetch_blob(app, blob, start=start, verify=False), _CONTENT[start:])

    def test_a_blob_of_another_size_is_refused(self, registry: Registry, app: str) -> None:
        blob = _blob(_CONTENT)
        registry.upload(app, blob, _reader(_CONTENT))
        with pytest.raises(IntegrityError):
            list(registry.fetch_blob(app, replace(blob, size=len(_CONTENT) - 7)))

    def test_an_upload_that_is_canceled_leaves_no_blob(self, registry: Registry, app: str) -> None:
        content = os.urandom(len(_CONTENT))  # which nobody sent before
        blob = _blob(content)

        def begin(offset: int) -> Iterator[bytes]:
            yield content[offset : offset + 65536]
            raise Canceled

        with pytest.raises(Canceled):
            registry.upload(app, blob, begin)
        with pytest.raises(NotFoundError):
            list(registry.fetch_blob(app, blob))
        assert registry.upload(app, blob, _reader(content)) is Uploaded.SENT
        assert _same(registry.fetch_blob(app, blob), content)

    def test_it_serves_many_threads(self, registry: Registry, app: str) -> None:
        contents = [bytes([number]) * 100_000 for number in range(12)]
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda content: registry.upload(app, _blob(content), _reader(content)), contents))
            read = pool.map(lambda content: _same(registry.fetch_blob(app, _blob(content)), content), contents)
        assert all(read)

    def test_tags_that_are_put_at_once_are_all_kept(self, registry: Registry, app: str) -> None:
        image = self._push(registry, app, "1")
        tags = [f"at-once-{number}" for number in range(24)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda tag: registry.put_document(app, tag, image.content, image.top.media_type), tags))
        assert set(registry.tags(app)) >= {"1", *tags}

    def test_two_processes_at_once_find_what_the_other_sent(self, domain: str, app: str) -> None:
        contents = {name: name.encode() * 300_000 for name in ("one", "two")}

        def send(name: str) -> None:
            with self.made(RegistryContext()) as registry:
                for content in (_CONTENT, contents[name]):
                    registry.upload(app, _blob(content), _reader(content))
                self._push(registry, app, name)

        at_once(*(partial(send, name) for name in contents))
        with self.made(RegistryContext()) as registry:
            assert set(registry.tags(app)) >= set(contents)
            assert all(
                _same(registry.fetch_blob(app, _blob(content)), content) for content in (_CONTENT, *contents.values())
            )

    def test_an_upload_that_was_killed_leaves_no_blob(self, registry: Registry, app: str) -> None:
        content = os.urandom(len(_CONTENT))
        blob = _blob(content)

        def begin(reached: Callable[[], None]) -> None:
            def read(offset: int) -> Iterator[bytes]:
                yield content[offset : offset + 65536]
                reached()

            with self.made(RegistryContext()) as running:
                running.upload(app, blob, read)

        kill_when_told(begin)
        with pytest.raises(NotFoundError):
            list(registry.fetch_blob(app, blob))
        assert registry.upload(app, blob, _reader(content)) is Uploaded.SENT
        assert _same(registry.fetch_blob(app, blob), content)

    def test_a_large_blob_takes_little_memory(self, registry: Registry, app: str) -> None:
        piece = bytes(1 << 20)
        hashed = hashlib.sha256()
        for _ in range(LARGE >> 20):
            hashed.update(piece)
        blob = Descriptor(oci.OCI_LAYER, Digest(f"sha256:{hashed.hexdigest()}"), LARGE)
        registry.upload(app, _blob(_CONTENT), _reader(_CONTENT))  # imports what it needs

        def there_and_back() -> None:
            with self.made(RegistryContext()) as running:
                running.upload(app, blob, lambda offset: (piece for _ in range((LARGE - offset) >> 20)))
                assert sum(map(len, running.fetch_blob(app, blob))) == LARGE

        assert memory_growth(there_and_back) < CEILING

    def test_ping_and_closing_twice(self, registry: Registry, domain: str) -> None:
        registry.ping(domain)
        registry.close()
        registry.close()

    def _push(self, registry: Registry, repository: str, tag: str) -> SmallImage:
        """Push a small image by hand, everything after what it names."""
        image = make_image()
        for digest, content in image.blobs.items():
            if digest != image.top.digest:
                registry.upload(repository, Descriptor(oci.OCI_LAYER, digest, len(content)), _reader(content))
        put = registry.put_document(repository, tag, image.content, image.top.media_type)
        assert put == image.top.digest
        return image


class _reader:  # noqa: N801 - used like a function
    """Gives *content* from an offset on, in pieces."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __call__(self, offset: int) -> Iterator[bytes]:
        for start in range(offset, len(self._content), 65536):
            yield self._content[start : start + 65536]


def _same(chunks: Iterable[bytes], content: bytes) -> bool:
    """Compare apart from any `assert`: pytest would show the difference of two megabytes, for minutes."""
    return b"".join(chunks) == content


def _blob(content: bytes) -> Descriptor:
    return Descriptor(oci.OCI_LAYER, Digest(oci.digest(content)), len(content))
