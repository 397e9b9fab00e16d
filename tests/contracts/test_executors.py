import pytest

from img_core.testing.contracts.executor import ExecutorContract
from img_executor_userns._executor import UsernsExecutor

pytestmark = pytest.mark.rootless


class TestUserns(ExecutorContract):
    executor = UsernsExecutor
