"""What all tests share."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

from harness.no_skips import pytest_runtest_makereport
from harness.started import pytest_runtest_teardown

__all__ = ["pytest_runtest_makereport", "pytest_runtest_teardown"]

pytest_plugins = ["img_core.testing"]

# A runner in the background starts us with some signals ignored, which every program that we start would inherit.
for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(signum) is signal.SIG_IGN:
        signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)

# One profile everywhere: no clock decides, and a checkout that we may not write to is no error. Continuous integration judges a change by
# the same examples each time; new ones are tried by people, who can look into what they find.
settings.register_profile(
    "img",
    deadline=None,
    derandomize="CI" in os.environ,
    **({} if os.access(os.getcwd(), os.W_OK) and "CI" not in os.environ else {"database": None}),
)
settings.load_profile("img")
