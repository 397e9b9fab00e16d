"""What changes the cache key of a step and what does not: cases CA of the Dockerfile specification, as far as they are planned.

The content of files is the solver's part of the key.
"""

from typing import Any

import pytest
from frontend_support import DictResolver, image, key

BASES = [{"config": {"Env": ["PATH=/bin"], "Labels": {"l": label}, "Cmd": [label]}} for label in ("1", "2")]


def keys(text: str, **options: Any) -> list[str]:
    """Return the keys of the layers of ``FROM b`` and *text*, first layer first."""
    entries = image(f"FROM b\n{text}", **options).history
    return [key(entry.vertex) for entry in entries if entry.vertex is not None]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("USER root\nRUN x", "USER 0\nRUN x", id="CA5"),
        pytest.param("RUN echo x", "RUN echo  x", id="CA7"),
        pytest.param("RUN x", "RUN --network=none x", id="CA12-network"),
        pytest.param("COPY a b /x/", "COPY a /x/\nCOPY b /x/", id="CA13"),
        pytest.param("COPY a /x/", "COPY --chown=0:0 a /x/", id="CA14"),
        pytest.param("COPY a /x/", "ADD a /x/", id="CA18"),
        pytest.param("COPY a /x/", "COPY --chmod=644 a /x/", id="mode"),
        pytest.param("COPY a /x/", "COPY --exclude=q a /x/", id="exclude"),
        pytest.param("ENV A=1 B=2\nRUN x", "ENV B=2 A=1\nRUN x", id="CA4"),
        pytest.param("WORKDIR /a", "USER u\nWORKDIR /a", id="owner-of-workdir"),
        pytest.param("ARG A=1\nRUN x", "ARG A=2\nRUN x", id="unused-argument-with-a-value"),
        pytest.param('SHELL ["/s"]\nRUN x', "RUN x", id="shell"),
        pytest.param("RUN --mount=target=/a x", "RUN --mount=target=/b x", id="mount-target"),
    ],
)
def test_change_is_another_step(first: str, second: str) -> None:
    assert keys(first)[-1] != keys(second)[-1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("RUN echo x", 'RUN ["/bin/sh","-c","echo x"]', id="CA6"),
        pytest.param("ARG A=1\nENV A=3\nRUN x", "ARG A=2\nENV A=3\nRUN x", id="CA10"),
        pytest.param("COPY a b /x/", 'COPY   ["./a", "/b" , "/x/"]', id="form-and-spelling"),
        pytest.param("COPY a /x/", "ENV A=1\nUSER u\nLABEL l=1\nCOPY a /x/", id="metadata-above-copy"),
        pytest.param(
            "RUN x", 'ARG A\nEXPOSE 1\nVOLUME /v\nCMD ["c"]\nSHELL ["/bin/sh","-c"]\nRUN x', id="metadata-above-run"
        ),
        pytest.param("RUN <<A\nx\nA", "RUN <<B\nx\nB", id="delimiter"),
        pytest.param("WORKDIR /a", "ENV A=1\nWORKDIR /a/.", id="workdir-spelling"),
        pytest.param("RUN x", "run x", id="letter-case"),
    ],
)
def test_change_is_the_same_step(first: str, second: str) -> None:
    assert keys(first)[-1] == keys(second)[-1]


def test_variable_above_copy_changes_later_commands_only() -> None:  # CA3
    copied, ran = keys("ENV A=1\nCOPY a /a\nRUN x")
    copied_again, ran_again = keys("ENV A=2\nCOPY a /a\nRUN x")
    assert copied == copied_again
    assert ran != ran_again


def test_argument_value_changes_commands_only() -> None:  # CA9
    text = "ARG A\nCOPY a /a\nRUN x"
    copied, ran = keys(text, args={"A": "1"})
    copied_again, ran_again = keys(text, args={"A": "2"})
    assert copied == copied_again
    assert ran != ran_again


def test_config_of_the_base_does_not_count() -> None:  # CA8
    resolvers = [DictResolver({"docker.io/library/b:latest": base}) for base in BASES]
    found = [keys("RUN x\nCOPY a /a", resolver=resolver) for resolver in resolvers]
    assert found[0] == found[1]


def test_extra_host_counts_and_its_address_does_not() -> None:  # CA12
    plain = keys("RUN x")
    one, other = (keys("RUN x", extra_hosts=(("h", address),)) for address in ("10.0.0.1", "10.0.0.2"))
    assert plain != one
    assert one == other


def test_proxies_and_undeclared_arguments_do_not_count() -> None:
    plain = keys("RUN x")
    assert keys("RUN x", args={"HTTP_PROXY": "p", "no_proxy": "q", "UNKNOWN": "1"}) == plain
