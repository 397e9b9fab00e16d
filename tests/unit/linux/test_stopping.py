"""A signal stops a command wherever it is, also where Python drops the exception of a handler, or wraps it."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pytest

from img_core.linux.stopping import Stopped, signal_in
from img_core.spec.errors import PluginError

PROGRAM = """
import os, signal, sys, time, weakref
from img_core.cli._exit import guarded

def signaled(*_):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0)

class Gone:
    def __del__(self):
        signaled()

class Plain:
    pass

class Named:
    def __set_name__(self, owner, name):
        signaled()

def destructor():
    Gone()

def callback():
    plain = Plain()
    reference = weakref.ref(plain, signaled)
    del plain

def class_body():
    class Owner:
        named = Named()

def command():
    globals()[sys.argv[1]]()
    time.sleep(100)

sys.exit(guarded(command))
"""


@pytest.mark.parametrize("where", ["signaled", "destructor", "callback", "class_body"])
def test_a_signal_stops_a_command_wherever_it_is(where: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, where], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (143, "Error: stopped by SIGTERM\n")


def test_other_exceptions_in_destructors_are_shown() -> None:
    program = PROGRAM.replace("signaled()", "1 / 0").replace("time.sleep(100)", "")
    done = subprocess.run([sys.executable, "-c", program, "destructor"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "ZeroDivisionError" in done.stderr


def chained(*errors: BaseException) -> BaseException:
    for error, cause in pairwise(errors):
        error.__cause__ = cause
    return errors[0]


@pytest.mark.parametrize(
    ("error", "signum"),
    [
        pytest.param(Stopped(15), 15, id="itself"),
        pytest.param(KeyboardInterrupt(), 2, id="that-of-Python"),
        pytest.param(chained(RuntimeError(), Stopped(1)), 1, id="in-a-class"),
        pytest.param(chained(PluginError("x"), RuntimeError(), Stopped(15)), 15, id="in-a-class-of-a-plugin"),
        pytest.param(chained(RuntimeError(), ValueError()), 0, id="something-else"),
    ],
)
def test_signal_in(error: BaseException, signum: int) -> None:
    assert signal_in(error) == signum
