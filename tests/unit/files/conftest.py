"""Fixtures for tests of copying."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from copy_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    mask = os.umask(0o077)  # must not matter
    try:
        yield Bench(tmp_path)
    finally:
        os.umask(mask)


@pytest.fixture
def users(bench: Bench) -> Bench:
    """An image with the users of case CP9."""
    bench.target("etc/passwd", "root:x:0:0::/root:/bin/sh\nu:x:1234:77::/home/u:/bin/sh\n")
    bench.target("etc/group", "root:x:0:\ng:x:99:u\n")
    bench.source("a.txt")
    return bench
