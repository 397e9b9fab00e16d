"""What is switched off is neither imported nor run: plugins of every kind and form, in every way.

Nothing lifts the lock of an administrator. All of them are on one machine, and each leaves a mark when it is imported or run.
"""

from __future__ import annotations

import importlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from img_core.config import DEFAULT_ORDER, Config
from img_core.plugins import Plugins
from img_core.plugins._programs import PROGRAM_KINDS
from img_core.spec.errors import PluginError, UsageError
from img_core.spec.kinds import GROUPS, KINDS, LISTENER

FORMS = {"installed": KINDS, "file": KINDS, "program": PROGRAM_KINDS}
ALL = [(kind, form) for form, kinds in FORMS.items() for kind in kinds]


class Machine:
    """Has a plugin ``odd-FORM`` of every kind, in each form."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.marks = top / "marks"
        self.marks.mkdir()
        for kind, form in ALL:
            getattr(self, f"put_{form}")(kind, f"odd-{form}")
        importlib.invalidate_caches()

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def put_installed(self, kind: str, name: str) -> None:
        module = f"odd_{kind}_{self.top.name.replace('-', '_')}"
        self.write(f"site/{module}.py", self._marking(kind, name))
        self.write(f"site/{module}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: odd-{kind}\nVersion: 1.0\n")
        self.write(f"site/{module}-1.0.dist-info/entry_points.txt", f"[{GROUPS[kind]}]\n{name} = {module}\n")

    def put_file(self, kind: str, name: str, directory: str = "user/img/plugins") -> Path:
        return self.write(f"{directory}/{kind}-{name}.py", self._marking(kind, name))

    def put_program(self, kind: str, name: str) -> None:
        self.write(f"bin/img-{kind}-{name}", f"#!/bin/sh\n: > {self.marks}/{kind}-{name}\n", 0o755)

    def _marking(self, kind: str, name: str) -> str:
        return f"open({str(self.marks / f'{kind}-{name}')!r}, 'a').close()\nraise SystemExit\n"

    def plugins(self, environment: dict[str, str] | None = None, **more: Any) -> Plugins:
        variables = {"HOME": str(self.top), "XDG_CONFIG_HOME": str(self.top / "user"), "PATH": str(self.top / "bin")}
        places = {"distro_directory": str(self.top / "distro"), "admin_directory": str(self.top / "admin")}
        return Plugins(Config.load(environment={**variables, **(environment or {})}, **places, **more))

    def assert_off(self, plugins: Plugins, off: list[tuple[str, str]]) -> None:
        """Look at everything in every way that loads what is on."""
        for kind, name in off:
            assert name not in plugins.names(kind), kind
            assert not plugins.has(kind, name)
            if kind != LISTENER:
                with pytest.raises(PluginError, match="switched off by"):
                    plugins.driver(kind, name)
        with suppress(PluginError, UsageError):  # a flag that names a listener which is locked is refused
            plugins.listeners()
        found = {(info.kind, info.name): info.status for info in plugins.inventory()}
        assert {plugin: found[plugin] for plugin in off} == dict.fromkeys(off, "disabled")
        assert list(self.marks.iterdir()) == []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return Machine(tmp_path)


def names(*forms: str) -> list[tuple[str, str]]:
    return [(kind, f"odd-{form}") for kind, form in ALL if form in (forms or FORMS)]


def said(word: str, what: list[tuple[str, str]], *, by_kind: bool = False) -> str:
    """Return a line of a file of toggles."""
    words = sorted({f"{kind}:{'*' if by_kind else name}" for kind, name in what})
    return f"{word} = {words}\n"


LIST = [f"{kind}:{name}" for kind, name in names()]
OFF, OFF_KINDS = said("disabled", names()), said("disabled", names(), by_kind=True)
EVERY_KIND = [f"{kind}:*" for kind in KINDS]

#: way -> files below the machine's directory, variables, and fields of the configuration
WAYS: dict[str, tuple[dict[str, str], dict[str, str], dict[str, Any]]] = {
    "by the distribution": ({"distro/plugins.d/10.toml": OFF}, {}, {}),
    "by the distribution, whole kinds": ({"distro/plugins.d/10.toml": OFF_KINDS}, {}, {}),
    "by the administrator": ({"admin/plugins.d/10.toml": OFF}, {}, {}),
    "by the administrator, locked": ({"admin/plugins.d/10.toml": OFF + "locked = true\n"}, {}, {}),
    "by the user": ({"user/img/plugins.d/10.toml": OFF}, {}, {}),
    "by the user, whole kinds": ({"user/img/plugins.d/10.toml": OFF_KINDS}, {}, {}),
    "by a variable": ({}, {"IMG_DISABLED_PLUGINS": ",".join(LIST)}, {}),
    "by a variable, whole kinds": ({}, {"IMG_DISABLED_PLUGINS": ",".join(EVERY_KIND)}, {}),
    "by the flag": ({}, {}, {"no_plugins": tuple(LIST)}),
    "by the flag, whole kinds": ({}, {}, {"no_plugins": tuple(EVERY_KIND)}),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_switched_off_is_neither_imported_nor_run(machine: Machine, way: str) -> None:
    files, environment, more = WAYS[way]
    for name, text in files.items():
        machine.write(name, text)
    machine.assert_off(machine.plugins(environment, **more), names())


@pytest.mark.parametrize("place", ["admin", "distro", "user/img"])
def test_files_and_programs_that_are_forbidden_are_neither_imported_nor_run(machine: Machine, place: str) -> None:
    machine.write(f"{place}/config.toml", "[plugins]\nfiles = false\nexecutables = false\n")
    machine.write("user/img/plugins.d/10.toml", said("disabled", names("installed")))
    machine.assert_off(machine.plugins(), names())


def test_the_marks_are_left_by_what_is_on(machine: Machine) -> None:
    with suppress(PluginError):
        machine.plugins().listeners()
    for kind, form in ALL:
        if kind != LISTENER:
            with pytest.raises(PluginError):
                machine.plugins().driver(kind, f"odd-{form}")
    left = {path.name for path in machine.marks.iterdir()}
    assert left >= {f"{kind}-{name}" for kind, name in names() if kind != LISTENER}
    assert any(name.startswith(LISTENER) for name in left)


LIFTING: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "the user's toggles": ({"user/img/plugins.d/99.toml": said("enabled", names())}, {}),
    "the user's toggles, whole kinds": ({"user/img/plugins.d/99.toml": said("enabled", names(), by_kind=True)}, {}),
    "the user's configuration": (
        {
            "user/img/config.toml": "[plugins]\nfiles = true\nexecutables = true\n[order]\n"
            + "".join(f'{kind} = ["odd-program", "odd-file"]\n' for kind in DEFAULT_ORDER)
        },
        {},
    ),
    "the distribution": ({"distro/plugins.d/10.toml": said("enabled", names())}, {}),
    "a variable": ({}, {"IMG_DISABLED_PLUGINS": ""}),
    "a file that is named by the flag": ({}, {}),
    "files and programs of the same names": ({}, {}),
}


@pytest.mark.parametrize("lifting", LIFTING)
@pytest.mark.parametrize("by_kind", [False, True], ids=["each", "whole-kinds"])
def test_nothing_lifts_the_lock_of_an_administrator(machine: Machine, lifting: str, by_kind: bool) -> None:
    files, environment = LIFTING[lifting]
    machine.write("admin/plugins.d/10.toml", said("disabled", names(), by_kind=by_kind) + "locked = true\n")
    for name, text in files.items():
        machine.write(name, text)
    more: dict[str, Any] = {}
    if lifting.startswith("a file"):
        more["plugin_files"] = [str(machine.put_file(kind, "odd-file", "named")) for kind in KINDS]
    if lifting.startswith("files"):
        for kind in KINDS:
            machine.put_file(kind, "odd-installed")
        for kind in PROGRAM_KINDS:
            machine.put_program(kind, "odd-installed")
    machine.assert_off(machine.plugins(environment, **more), names())


@pytest.mark.parametrize("what", LIST)
def test_the_flag_cannot_switch_off_what_an_administrator_locks_as_on(machine: Machine, what: str) -> None:
    machine.write("admin/plugins.d/10.toml", f'enabled = ["{what}"]\nlocked = true\n')
    with pytest.raises(UsageError, match="locked by"):
        machine.plugins(no_plugins=(what,)).names(what.partition(":")[0])
