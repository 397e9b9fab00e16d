"""Cache backends against their contract."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from img_cache_local._local import LocalCache
from img_cache_registry._registry import RegistryCache
from img_core.testing.contracts.cache import CacheContract, Damage, Place
from img_core.testing.registry import DockerRegistry
from img_registry_oci._registry import OciRegistry


def files(directory: Path) -> dict[str, bytes]:
    """Return all files below *directory*."""
    return {
        os.path.join(parent, name): Path(parent, name).read_bytes()
        for parent, _, names in os.walk(directory)
        for name in names
    }


def damages(directory: Path, suffix: str = "") -> dict[str, Damage]:
    """Return what may happen to files of a cache."""

    def on_file(change: Callable[[bytes, random.Random], bytes | None]) -> Damage:
        def act(chance: random.Random) -> Callable[[], None]:
            path = Path(chance.choice(sorted(name for name in files(directory) if name.endswith(suffix))))
            before = path.read_bytes()
            after = change(before, chance)
            path.unlink() if after is None else path.write_bytes(after)

            def undo() -> None:
                path.write_bytes(before)

            return undo

        return act

    def flip(content: bytes, chance: random.Random) -> bytes:
        position = chance.randrange(len(content) or 1)
        return (
            content[:position] + bytes([(content[position : position + 1] or b"\0")[0] ^ 4]) + content[position + 1 :]
        )

    def other(_content: bytes, chance: random.Random) -> bytes:
        # A tag that names another good state is no damage that anybody could see.
        return chance.choice(sorted(text for text in files(directory).values() if not text.startswith(b'{"digest"')))

    return {
        "deleted": on_file(lambda _content, _chance: None),
        "truncated": on_file(lambda content, chance: content[: chance.randrange(len(content) or 1)]),
        "emptied": on_file(lambda _content, _chance: b""),
        "flipped": on_file(flip),
        "replaced by another": on_file(other),
        "replaced by a web page": on_file(lambda _content, _chance: b"<html>sign in</html>"),
    }


class TestLocal(CacheContract):
    backend = LocalCache

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        directory = tmp_path / "cache" / "below"
        return Place(
            export={"dest": str(directory)},
            source={"src": str(directory)},
            state=lambda: files(tmp_path / "cache"),
            damage=damages(directory),
            on_disk=True,
        )


class TestRegistry(CacheContract):
    """In the real registry; damage is done to its files."""

    backend = RegistryCache
    registry_class = OciRegistry

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Place]:
        data = tmp_path / "registry" / "data"
        with DockerRegistry(tmp_path / "registry") as registry:
            options = {"ref": f"{registry.address}/org/app:cache"}
            yield Place(export=options, source=options, state=lambda: files(data), damage=damages(data, "/data"))
