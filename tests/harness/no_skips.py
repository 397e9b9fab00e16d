"""With ``IMG_TEST_NO_SKIPS=1`` a contract that is skipped has failed: CI has everything that the built-in plugins need.

A ``conftest.py`` that wants this imports the hook.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

__all__ = ["pytest_runtest_makereport"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a contract's test into a failure with the same reason."""
    report = yield
    expected = hasattr(report, "wasxfail")
    if report.skipped and not expected and os.environ.get("IMG_TEST_NO_SKIPS") and _is_contract(item):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"not to be skipped here: {reason}"
    return report


def _is_contract(item: pytest.Item) -> bool:
    classes = item.cls.__mro__ if isinstance(item, pytest.Function) and item.cls else ()
    return any(kind.__name__.endswith("Contract") for kind in classes)
