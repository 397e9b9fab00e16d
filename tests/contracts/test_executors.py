from typing import ClassVar

import pytest

from img_core.testing.contracts.executor import ExecutorContract
from img_executor_runc._executor import RuncExecutor
from img_executor_userns._executor import UsernsExecutor

pytestmark = pytest.mark.rootless


class TestUserns(ExecutorContract):
    executor = UsernsExecutor


class TestRunc(ExecutorContract):
    executor = RuncExecutor
    options: ClassVar = {"runtime": "runc"}
    budget = 1.0


class TestCrun(ExecutorContract):
    executor = RuncExecutor
    options: ClassVar = {"runtime": "crun"}
    budget = 1.0
