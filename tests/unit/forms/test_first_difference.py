"""The name of what is not as before: of the most similar recorded step, the first input that differs."""

from __future__ import annotations

import pytest

from img_core.forms.comparison import KnownStep, first_difference, hashed

STEP = [("the command", "make"), ("variable A", "1"), ("variable B", "2"), ("step `[1/2] COPY . /`", "identity")]


def known(key: str = "key", description: str = "[2/2] RUN make", **changes: str) -> KnownStep:
    inputs = [(name, changes.get(name.split()[-1].strip("`/"), text)) for name, text in STEP]
    return key, description, hashed(key, [item for item in inputs if item[1]])


CASES = {
    "nothing": ([], "nothing like it was built before"),
    "the same": ([known()], "its result is gone"),
    "another variable": ([known(A="other")], "variable A"),
    "the first of two": ([known(A="other", B="other")], "variable A"),
    "a new variable": ([known(B="")], "variable B"),
    "the nearest": ([known("k1", command="cc", A="x"), known("k2", A="x"), known("k3", A="x", B="x")], "variable A"),
    "one with another name": ([known(description="[x 7/9] RUN other", command="other")], "the command"),
    "nothing similar": (
        [known(description="RUN other", command="x", A="x", B="x")],
        "nothing like it was built before",
    ),
    "without inputs": ([("key", "[2/2] RUN make", ())], "nothing like it was built before"),
    "the same place before the same name": (
        [
            known("k1", description="RUN old", A="x"),
            ("k2", "[2/2] RUN make", hashed("k2", [*STEP[:3], (STEP[3][0], "x")])),
        ],
        "variable A",
    ),
}


@pytest.mark.parametrize(("before", "reason"), CASES.values(), ids=CASES)
def test_the_first_difference_is_named(before: list[KnownStep], reason: str) -> None:
    assert first_difference("[2/2] RUN make", STEP, before) == reason


def test_an_input_that_is_gone_is_named() -> None:
    more = hashed("key", [*STEP, ("file gone", "x")])
    assert first_difference("[2/2] RUN make", STEP, [("key", "[2/2] RUN make", more)]) == "file gone"


def test_a_record_tells_no_value_and_equal_values_of_two_steps_look_different() -> None:
    one, two = hashed("one", STEP), hashed("two", STEP)
    assert not {text for _, text in one} & {text for _, text in two}
    assert all("make" not in text and "identity" not in text for _, text in one)
