"""Memory does not grow with the size of a layer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.img import Img, write_context
from harness.processes import run_and_watch

pytestmark = [pytest.mark.rootless, pytest.mark.slow]

LIMIT = 150 << 20
LAYER = 1 << 30


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("context")
    write_context(directory, "FROM busybox\nCOPY big /copied\n")
    with (directory / "big").open("wb") as file:
        for number in range(LAYER >> 20):
            file.write(number.to_bytes(4, "big") * (1 << 18))
    yield directory
    (directory / "big").unlink()


def test_layer_of_a_gigabyte_is_built_exported_and_loaded_in_150_megabytes(
    img: Img, context: Path, tmp_path: Path
) -> None:
    log, archive = tmp_path / "log", tmp_path / "out.tar"
    peaks = {
        "copy": run_and_watch(img, log, "build", "-t", "big", context),
        "save": run_and_watch(img, log, "save", "-o", archive, "big"),
        "tar": run_and_watch(img, log, "build", "-o", f"type=tar,dest={tmp_path}/root.tar", context),
        "load": run_and_watch(img, log, "load", "-i", archive),
    }
    assert (tmp_path / "root.tar").stat().st_size > LAYER
    (tmp_path / "root.tar").unlink()
    write_context(context, "FROM big\nRUN rm /copied && head -c 1073741824 /dev/zero > /made\n")
    peaks["run"] = run_and_watch(img, log, "build", "-t", "made", context)
    assert {name: size >> 20 for name, size in peaks.items() if size > LIMIT} == {}
    assert all(size > 10 << 20 for size in peaks.values()), "nothing was measured"


def test_many_files_need_no_more_memory_than_few(img: Img, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    for number in range(20_000):
        directory = context / f"d{number // 500}"
        directory.mkdir(exist_ok=True)
        (directory / f"file{number}").write_bytes(b"x")
    write_context(context, "FROM busybox\nCOPY . /many/\n")
    assert run_and_watch(img, tmp_path / "log", "build", "-t", "many", context) < LIMIT
