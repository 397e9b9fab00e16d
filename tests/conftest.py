"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# One profile everywhere: no clock decides, and a checkout that we may not write to is no error.
settings.register_profile("img", deadline=None, **({} if os.access(os.getcwd(), os.W_OK) else {"database": None}))
settings.load_profile("img")
