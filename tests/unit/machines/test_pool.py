"""Who gets parts at the same time: nobody is left out for whom there is something to do."""

from __future__ import annotations

import pytest

from img_core.machines.cut import CutPart
from img_core.machines.pool import slots
from img_core.spec.engine import EngineWorker
from img_core.spec.graph import RunOp, Vertex

AMD64, ARM64 = "linux/amd64", "linux/arm64"
MANY = tuple(EngineWorker(f"amd-{number}", (AMD64,), 8) for number in range(40))
ARM = EngineWorker("arm", (ARM64,), 2)


def parts(*platforms: str) -> list[CutPart]:
    return [CutPart(Vertex(RunOp((str(number),))), (), (), platform) for number, platform in enumerate(platforms)]


@pytest.mark.parametrize(
    ("wanted", "workers", "trusted", "names"),
    [
        pytest.param(["", "", ARM64], (*MANY, ARM), (), ["amd-0", "amd-1", "arm"], id="the-only-one-of-a-platform"),
        pytest.param(["", ""], (*MANY, ARM), ("amd-39",), ["amd-39", "amd-0"], id="who-may-see-secrets"),
        pytest.param(["", "", ""], MANY[:2], (), ["amd-0", "amd-1", "amd-0"], id="all-before-any-twice"),
        pytest.param([ARM64] * 5, (ARM,), (), ["arm", "arm"], id="no-more-than-it-can-do"),
        pytest.param([], MANY, (), [], id="nothing-to-do"),
    ],
)
def test_slots(
    wanted: list[str], workers: tuple[EngineWorker, ...], trusted: tuple[str, ...], names: list[str]
) -> None:
    assert [worker.name for worker in slots(workers, parts(*wanted), AMD64, trusted)] == names
