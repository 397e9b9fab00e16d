"""Nearly right Dockerfiles, built for real: each gives an image or one line that says what is wrong, and nothing breaks."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.build_server import BuildServer, build_server
from harness.dockerfile_noise import mutated, soup
from harness.img import environment, remove_as_mapped_root, write_context

pytestmark = pytest.mark.rootless

BUILDS = 1000
#: Done, general, usage, Dockerfile, step, registry; nothing else may happen without a network.
CODES = {0, 1, 2, 3, 4, 6}


@pytest.fixture
def alone(tmp_path: Path, seed: Path) -> Iterator[BuildServer]:
    """Give a server that knows ``busybox``, also as ``b``, and no registry."""
    config = tmp_path / ".config" / "img"
    config.mkdir(parents=True)
    (config / "registries.toml").write_text('[registry."docker.io"]\nblocked = true\n')
    shutil.copytree(seed, tmp_path / "state")
    with build_server(tmp_path / "state", environment(tmp_path)) as server:
        (tmp_path / "empty").mkdir()
        server.build(tmp_path / "empty", "FROM busybox\n", tags=["b"]).ok()
        yield server
    remove_as_mapped_root(tmp_path / "state")


def test_every_build_ends_in_an_image_or_in_one_line(alone: BuildServer, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    context = write_context(tmp_path / "c", "", {"a": "a", "b": "b", "src/x.c": "c", "src/y.md": "d", "src/in/z": "e"})
    source, ends = random.Random(7), Counter[int]()
    while ends.total() < BUILDS:
        content = source.choice((soup, mutated, mutated))(source)
        if b":/" in content or b"@" in content or b"." in content.partition(b"\n")[0]:
            continue  # it may name another host
        built = alone.build(context, content.decode("utf-8", "surrogateescape"))
        ends[built.code] += 1
        assert built.code in CODES, (content, str(built))
        assert built.error.isprintable(), (content, str(built))
        assert built.hint.isprintable(), (content, str(built))
        assert not any(str(place) in built.error + built.hint for place in (context, alone.state)), (
            content,
            str(built),
        )
    assert ends[0] > BUILDS // 20, ends
