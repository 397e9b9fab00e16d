"""Ending what a process started where no pid namespace does it."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import subprocess
from img_core.linux import children, syscalls
syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
spared = subprocess.Popen(["sleep", "1000"])
# orphans of orphans, in sessions of their own
command = "for i in 1 2 3; do setsid sh -c 'setsid sleep 1000 & sleep 1000 & wait' & done; echo started; wait"
shell = subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE)
shell.stdout.readline()
children.end(spare=[spared.pid])
assert children.of_this_process() == [spared.pid], children.of_this_process()
children.end()
assert children.of_this_process() == []
"""


def test_all_descendants_end_but_those_that_are_spared() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
