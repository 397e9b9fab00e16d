"""Ten hostile plugins beside each other: who asks for none of them notices nothing, and `img plugins ls` names each with its reason."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.img import Img, write_context

pytestmark = pytest.mark.rootless

DRIVER = """
from img_core.spec import Exporter, hookimpl
class Bad(Exporter):
    "A driver."
    name, needs_layers, schema = "bad", False, {"type": "object", "additionalProperties": False, "properties": {}}
    def export(self, result, progress):
        return {}
@hookimpl
def img_exporter():
    return Bad
"""
RAISING = """
from img_core.spec import hookimpl
@hookimpl
def img_build_planned():
    pass
@hookimpl
def img_step_finished(vertex):
    raise ValueError("in every hook")
@hookimpl
def img_event(event):
    raise ValueError("in every hook")
"""
PRINTING = """
import os, sys
from img_core.spec import hookimpl
def noise():
    print("NOISE")
    os.write(1, b"NOISE\\n")
noise()
@hookimpl
def img_event(event):
    noise()
"""
THREAD = "import threading, time\nthreading.Thread(target=time.sleep, args=(300,)).start()\n"

#: what is wrong -> (kind, source, status in the listing, a part of its reason)
HOSTILE = {
    "import-error": ("exporter", "import nothing_of_that_name", "broken", "nothing_of_that_name"),
    "system-exit": ("exporter", "raise SystemExit(0)", "broken", "SystemExit"),
    "os-exit": ("exporter", "import os; os._exit(0)", "broken", "ends the process that loads it"),
    "kills": ("exporter", "import os; os.kill(os.getpid(), 9)", "broken", "ends the process that loads it"),
    "wrong-signature": ("exporter", DRIVER.replace("img_exporter()", "img_exporter(tempo)"), "broken", "tempo"),
    "unknown-hook": ("exporter", DRIVER + "@hookimpl\ndef img_dance():\n    pass\n", "broken", "img_dance"),
    "tar": ("exporter", DRIVER, "broken", "is claimed by"),
    "slow": ("exporter", "import time; time.sleep(3)\n" + DRIVER, "ok", ""),
    "thread": ("exporter", THREAD + DRIVER, "ok", ""),
    "raises": ("listener", RAISING, "ok", ""),
    "prints": ("listener", PRINTING, "ok", ""),
    "prints-driver": ("exporter", "print('NOISE')\n" + DRIVER, "ok", ""),
}
GROUPS = {"exporter": "img.exporters", "listener": "img.plugins"}

#: commands that need none of them, and what they print
UNRELATED = (
    ("ls", "-q"), ("tag", "busybox", "other"), ("version",), ("--help",), ("inspect", "busybox"), ("build", "--help"),
    ("plugins", "--help"),
)  # fmt: skip


@pytest.fixture
def hostile(img: Img, tmp_path: Path) -> Img:
    """The command, on a machine where all of them are installed. Each leaves a mark in `marks` when it is imported."""
    site, marks = tmp_path / "site", tmp_path / "marks"
    marks.mkdir()
    for word, (kind, source, *_) in HOSTILE.items():
        name = f"hostile_{word.replace('-', '_')}"
        info = site / f"{name}-6.6.dist-info"
        info.mkdir(parents=True)
        mark = f"open({str(marks / word)!r}, 'a').close()\n"
        (site / f"{name}.py").write_text(mark + textwrap.dedent(source))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: hostile-{word}\nVersion: 6.6\n")
        (info / "entry_points.txt").write_text(f"[{GROUPS[kind]}]\n{word} = {name}\n")
    return img.with_environment(PYTHONPATH=f"{site}:{img.environment()['PYTHONPATH']}")


def test_who_asks_for_none_of_them_loads_none(img: Img, hostile: Img, tmp_path: Path) -> None:
    for words in UNRELATED:
        assert hostile.run(*words).ok().text == img.run(*words).ok().text, words
    assert list((tmp_path / "marks").iterdir()) == []


def test_the_listing_names_each_with_its_reason(hostile: Img) -> None:
    done = hostile.run("plugins", "ls", "--format", "json").ok()
    rows = [json.loads(line) for line in done.text.splitlines()]
    for word, (kind, _, status, reason) in HOSTILE.items():
        (row,) = [row for row in rows if row["distribution"] == f"hostile-{word}"]
        assert (row["kind"], row["name"], row["status"]) == (kind, word, status), row
        assert reason in row["reason"]
        assert status == "ok" or f"hostile-{word} 6.6" in row["reason"]
    ours = [row for row in rows if row["distribution"] == "img-builder" and row["name"] != "tar"]
    assert {row["status"] for row in ours} == {"ok"}


def test_a_build_goes_on_beside_them(hostile: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM busybox\nRUN echo one\n")
    done = hostile.build(context, "-q").ok()
    assert done.text.startswith("sha256:")
    assert done.text.count("\n") == 1
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert [line.partition(" failed")[0] for line in warnings] == [
        "warning: plugin listener:raises of hostile-raises 6.6"
    ]
    assert sorted(path.name for path in (tmp_path / "marks").iterdir()) == ["prints", "raises"]
    hostile.build(context, "-o", "type=tar,dest=-", tag="").refused(1, "exporter `tar` is claimed by")
    assert hostile.build(context, "-o", "type=oci,dest=-", tag="").ok().stdout


@pytest.mark.parametrize(
    "word", [word for word, row in HOSTILE.items() if row[0] == "exporter" and "ends the process" not in row[3]]
)
def test_who_asks_for_one_gets_an_error_or_its_work_and_the_command_ends(
    hostile: Img, tmp_path: Path, word: str
) -> None:
    context = write_context(tmp_path / "context", "FROM scratch\nCOPY f /\n", {"f": ""})
    done = hostile.build(context, "-o", f"type={word}", tag="", timeout=60)
    _, _, status, reason = HOSTILE[word]
    if status == "broken":
        done.refused(1, reason)
    else:
        done.ok()
        assert "NOISE" not in done.text


WAYS: dict[str, Callable[[Img, str], Img]] = {
    "the flag": lambda img, what: img.with_flags("--no-plugin", what),
    "the flag, for the kind": lambda img, what: img.with_flags("--no-plugin", what.partition(":")[0] + ":*"),
    "the variable": lambda img, what: img.with_environment(IMG_DISABLED_PLUGINS=what),
    "the command": lambda img, what: (img.run("plugins", "disable", what).ok(), img)[1],
    "a file": lambda img, what: _toggled(img, what),
}


def _toggled(img: Img, what: str) -> Img:
    directory = img.home / ".config/img/plugins.d"
    directory.mkdir(parents=True)
    (directory / "10-off.toml").write_text(f'disabled = ["{what}"]\n')
    return img


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ["exporter:slow", "listener:prints"])
def test_one_that_is_switched_off_is_never_imported(hostile: Img, tmp_path: Path, way: str, what: str) -> None:
    context = write_context(tmp_path / "context", "FROM busybox\nCOPY f /\n", {"f": ""})
    off = WAYS[way](hostile, what)
    off.run("plugins", "ls").ok()
    off.run("plugins", "ls", "--probe").ok()
    off.run("plugins", "info", what).ok()
    off.run("plugins", "check", what).refused(1, "is switched off by")
    off.run("doctor")
    off.build(context, *(["-o", "type=slow"] if what == "exporter:slow" else []), tag="")
    assert not (tmp_path / "marks" / what.partition(":")[2]).exists()


def test_fifty_of_them_cost_nothing_that_can_be_felt(img: Img, tmp_path: Path) -> None:
    site = tmp_path / "site"
    for number in range(50):
        info = site / f"more_{number}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"more_{number}.py").write_text("import time; time.sleep(5)\n" + DRIVER)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: more-{number}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[img.exporters]\nmore{number} = more_{number}\n")
        file = img.home / f".config/img/plugins/exporter-file{number}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("import time; time.sleep(5)\n" + DRIVER)
        program = tmp_path / f"programs/img-exporter-program{number}"
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\nsleep 5\n")
        program.chmod(0o755)
    path = f"{tmp_path}/programs:{os.environ['PATH']}"
    many = img.with_environment(PYTHONPATH=f"{site}:{img.environment()['PYTHONPATH']}", PATH=path)
    img = img.with_environment(HOME=str(tmp_path / "home-of-none"))
    for words in (("--help",), ("ls",)):
        assert _more_seconds(many, img, words) < 0.02, words


def test_hostile_ones_cost_others_nothing_that_can_be_felt(img: Img, hostile: Img) -> None:
    for words in (("ls", "-q"), ("inspect", "busybox")):
        assert _more_seconds(hostile, img, words) < 0.02, words


def _more_seconds(one: Img, other: Img, words: tuple[str, ...]) -> float:
    """Return how many more seconds of the processor a command takes with *one* than with *other*."""
    for which in (one, other):
        which.run(*words).ok()  # finds plugins, once
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(25):  # in turns, until the machine was quiet for both
        for which, times in zip((one, other), taken, strict=True):
            before = _of_children()
            subprocess.run(which.command(*words), env=which.environment(), capture_output=True, check=True)
            times.append(_of_children() - before)
        if len(taken[0]) >= 4 and min(taken[0]) - min(taken[1]) < 0.02:
            break
    return min(taken[0]) - min(taken[1])


def _of_children() -> float:
    """Return the seconds of processor time of all children that ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
