"""While a step has the place of the root directory, nobody else looks for anything there."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from img_core.linux.parallel import once
from img_executor_swap._quiet import Quiet

quiet = once(Quiet)
DEEDS: dict[str, Callable[[], object]] = {
    "look up a host": lambda: socket.getaddrinfo("localhost", 80),
    "start a program": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
    "open a file": lambda: Path("/etc/hosts").read_bytes(),
    "list a directory": lambda: os.listdir("/etc"),
    "ask the zygote": lambda: sys.audit("img.spawn", "entry"),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_others_wait(deed: str) -> None:
    began, done = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        DEEDS[deed]()
        done.set()

    worker = threading.Thread(target=work)
    with quiet().during():
        worker.start()
        assert began.wait(30)
        assert not done.wait(0.05)
    worker.join(30)
    assert done.is_set()


@pytest.mark.parametrize("deed", [deed for deed in DEEDS if deed != "ask the zygote"])
def test_who_has_the_turn_gets_an_error(deed: str) -> None:
    with quiet().during(), pytest.raises(RuntimeError, match="while the files of an image are in place"):
        DEEDS[deed]()


def test_what_stays_can_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    here = os.open(tmp_path, os.O_RDONLY)
    with quiet().during():
        assert Path("/proc/self/status").read_text()
        assert os.listdir(here) == ["file"]
        os.close(os.open("file", os.O_RDONLY, dir_fd=here))
        DEEDS["ask the zygote"]()
    os.close(here)
