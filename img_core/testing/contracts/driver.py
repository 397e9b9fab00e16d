"""What plugins of every kind promise: a class that says what it is, in a module that is no burden to whoever lists plugins.

Suites of drivers contain `DriverContract`. For the module that the entry point names there is a suite of its own::

    class TestModule(ModuleContract):
        kind = "exporter"
        module = "img_exporter_example.plugin"
"""

# ruff: noqa: D102 - a test's name is its claim
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from img_core.plugins import CONTRACT_VERSIONS, LISTENER, Found
from img_core.plugins._discovery import load_module
from img_core.plugins._making import construct
from img_core.plugins._register import check_driver, driver_of, load_checked

__all__ = ["DriverContract", "ModuleContract"]

#: What takes so long to import that a module which is only listed must not do it; the hook's function may, once it is called for good.
HEAVY = ("asyncio", "httpcore", "httpx", "jsonschema", "requests", "rich", "urllib.request", "numpy")
#: seconds of processor time that the import of a plugin's module may take, with room for a busy machine
_BUDGET = 0.3

_IMPORT = """
import json, os, sys, threading, time
import img_core.spec, pluggy, click
from img_core.plugins import Found
from img_core.plugins._discovery import load_module
before, began, modules = os.getcwd(), time.process_time(), set(sys.modules)
load_module(Found(sys.argv[3], "checked", sys.argv[1], "the suite", "1"))
found = {"seconds": time.process_time() - began, "threads": [t.name for t in threading.enumerate()[1:]],
         "modules": sorted(set(sys.modules) - modules), "children": open("/proc/thread-self/children").read().split(),
         "moved": os.getcwd() != before}
os.write(int(sys.argv[2]), json.dumps(found).encode())
"""


class DriverContract:
    """What every driver class says about itself."""

    #: the kind of the driver, and the attribute of the suite that holds its class
    kind: ClassVar[str]
    holder: ClassVar[str]
    options: ClassVar[
        dict[str, Any]
    ] = {}  #: with which it is made, those that its schema requires among them; Any: JSON

    #: what the suite has to be given beside the class, in words; a subclass overrides the fixture that asks for it
    samples: ClassVar[Mapping[str, str]] = {}
    #: what ``img plugins check --sample`` gave instead; None where the suite is subclassed
    given_samples: ClassVar[Mapping[str, str] | None] = None

    def sample(self, name: str) -> str:
        """Return the sample *name*; the test is skipped if ``img plugins check`` has none."""
        if self.given_samples is None:
            raise NotImplementedError(f"{type(self).__name__} has to say: {self.samples[name]}")
        if name not in self.given_samples:
            pytest.skip(f"needs `--sample {name}=…`: {self.samples[name]}")
        return self.given_samples[name]

    def made(self, *subject: Any) -> Any:  # Any: what constructors of its kind take, and a driver
        """Return a driver made as the core makes it, from *subject* and `options`."""
        return construct(self.kind, self.driver, subject, self.options)

    @property
    def driver(self) -> Any:  # Any: a driver class of whatever kind
        """The class under test."""
        return getattr(type(self), self.holder)

    def test_the_core_accepts_it(self) -> None:
        check_driver(Found(self.kind, self.driver.name, self.driver.__module__, "the suite", "1"), self.driver)
        lowest, highest = self.driver.api
        assert lowest <= (ours := CONTRACT_VERSIONS[self.kind]) <= highest, (
            f"a driver for this img says `api = ({ours}, {ours})`"
        )

    def test_its_name_is_a_word_that_people_can_type(self) -> None:
        name = self.driver.name
        assert name == name.lower() != ""
        assert name.isprintable()
        assert not set(name) & set(" ,=\"'`$*:"), name

    def test_it_says_in_a_line_what_it_is(self) -> None:
        summary = (self.driver.__dict__.get("__doc__") or "").strip().partition("\n")[0]
        assert summary, "`img plugins info` shows the first line of the class's docstring"

    def test_options_are_declared_and_explained(self) -> None:
        from jsonschema import Draft202012Validator

        schema = self.driver.schema
        if schema is None:
            return
        Draft202012Validator.check_schema(dict(schema))
        assert schema.get("additionalProperties") is False, "a misspelled option must be refused"
        for name, option in schema.get("properties", {}).items():
            assert option.get("description"), f"option {name} is not explained"


class ModuleContract:
    """What the module that an entry point names promises."""

    kind: ClassVar[str]
    module: ClassVar[str]

    @pytest.fixture(scope="class")
    @classmethod
    def imported(cls) -> dict[str, Any]:  # Any: JSON
        """What a fresh interpreter found when it imported the module."""
        reader, writer = os.pipe()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", _IMPORT, cls.module, str(writer), cls.kind]
        done = subprocess.run(
            command, pass_fds=[writer], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        os.close(writer)
        with os.fdopen(reader, "rb") as answer:
            told = answer.read()
        assert told, (
            f"importing {cls.module} ended the interpreter with status {done.returncode}: {done.stderr[-1000:]}"
        )
        return {**json.loads(told), "printed": done.stdout + done.stderr}

    def test_the_core_accepts_it(self) -> None:
        load_checked(Found(self.kind, "checked", self.module, "the suite", "1"))

    def test_importing_it_prints_nothing(self, imported: dict[str, Any]) -> None:
        assert imported["printed"] == ""

    def test_importing_it_starts_nothing(self, imported: dict[str, Any]) -> None:
        assert (imported["threads"], imported["children"], imported["moved"]) == ([], [], False)

    def test_importing_it_is_quick(self, imported: dict[str, Any]) -> None:
        assert [name for name in imported["modules"] if name in HEAVY] == []
        assert imported["seconds"] < _BUDGET

    def test_asking_it_twice_gives_the_same(self) -> None:
        if self.kind == LISTENER:
            return
        found = Found(self.kind, "checked", self.module, "the suite", "1")
        module = load_module(found)
        assert driver_of(found, module) is driver_of(found, module), "its hook has to return the same, made once"
