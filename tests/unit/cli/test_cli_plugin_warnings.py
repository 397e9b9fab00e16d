"""What Python warns of while a command runs: a plugin that has to change is a line of ours, all else is as Python says it."""

from __future__ import annotations

import warnings

import pytest

from img_core.cli._settings import Settings


@pytest.mark.parametrize(
    ("text", "category", "said"),
    [
        pytest.param("plugin exporter:x of y 1 is old", FutureWarning, "warning: plugin exporter:x of y 1 is old\n", id="ours"),
        pytest.param("something of a library", FutureWarning, "", id="of-a-library"),
        pytest.param("plugin something", UserWarning, "", id="of-another-category"),
    ],
)  # fmt: skip
def test_a_plugin_that_has_to_change_is_a_line(
    text: str, category: type[Warning], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings(record=True) as others:
        warnings.simplefilter("always")
        Settings().plugins()
        warnings.warn(text, category, stacklevel=1)
    assert capfd.readouterr().err == said
    assert [str(item.message) for item in others] == ([] if said else [text])
