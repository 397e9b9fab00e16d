"""The inputs that fuzzing begins from, and those that it found: each goes through its target without being an accident."""

from pathlib import Path

import pytest

from fuzz.targets import TARGETS

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
INPUTS = sorted(path.relative_to(CORPUS) for path in CORPUS.glob("*/*"))


@pytest.mark.parametrize("name", INPUTS, ids=str)
def test_input_is_read_or_refused(name: Path) -> None:
    TARGETS[name.parts[0]]((CORPUS / name).read_bytes())


def test_every_target_has_a_corpus() -> None:
    assert {name.parts[0] for name in INPUTS} == set(TARGETS)
