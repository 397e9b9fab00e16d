"""Options of drivers of every kind: where they come from, who wins, and what mistakes are told."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from img_core.config import Config
from img_core.plugins import Choice, PluginInfo, Plugins, environment_name, parse_choice
from img_core.spec import Host, PluginError, UsageError
from img_core.spec.kinds import WITHOUT_OPTIONS

SCHEMA = """{"type": "object", "additionalProperties": False, "properties": {
    "runtime": {"type": "string", "x-environment": "OLD_NAME"}, "level": {"type": "integer", "maximum": 9},
    "deep.name": {"type": "boolean"}, "words": {"type": "array"}}}"""
EXECUTOR = f"""
from img_core.spec import Executor, hookimpl
class Demo(Executor):
    name = "demo"
    schema = {SCHEMA}
    asked = []
    @classmethod
    def probe(cls, host, options=None):
        cls.asked.append(options)
    def run(self, process, rootfs, io): ...
class NoOptions(Demo):
    name, schema = "plain", None
class Before(Demo):
    name = "before"
    def __init__(self, host):
        self.host = host
class BeforeProbe(Demo):
    name = "before-probe"
    @classmethod
    def probe(cls, host):
        cls.asked.append("without")
class Wide(Demo):
    name = "wide"
    def __init__(self, *words, **more):
        super().__init__(*words, **more)
@hookimpl
def img_executor():
    return CLASS
"""
CLASSES = {"demo": "Demo", "demo-plain": "NoOptions", "before": "Before", "before-probe": "BeforeProbe", "wide": "Wide"}
HOST = Host(mapping="none", state_directory="/nonexistent", run_directory="/nonexistent")
Make = Callable[..., Plugins]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Return a function that gives the plugins of a machine with these executors; *files* are its configuration by place."""
    site = tmp_path / "site"
    info = site / "their_drivers-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-drivers\nVersion: 1.5\n")
    lines = ["[img.executors]"]
    for number, (name, what) in enumerate(CLASSES.items()):
        (site / f"their_driver_{number}.py").write_text(EXECUTOR.replace("CLASS", what))
        lines.append(f"{name} = their_driver_{number}")
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()

    def plugins(*, no_plugins: tuple[str, ...] = (), variables: dict[str, str] | None = None, **files: str) -> Plugins:
        for place, text in files.items():
            directory = tmp_path / place / "img" if place == "user" else tmp_path / place
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "config.toml").write_text(text)
        environment = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "user"), **(variables or {})}
        return Plugins(
            Config.load(
                environment=environment,
                distro_directory=str(tmp_path / "distro"),
                admin_directory=str(tmp_path / "admin"),
                no_plugins=no_plugins,
            )
        )

    yield plugins
    for name in [name for name in sys.modules if name.startswith("their_driver_")]:
        del sys.modules[name]


def table(value: str, driver: str = "demo") -> str:
    return f"[executor.{driver}]\n{value}\n"


RUNTIME = "IMG_EXECUTOR_DEMO_RUNTIME"


@pytest.mark.parametrize(
    ("typed", "variables", "files", "expected"),
    [
        ("demo", {}, {}, {}),
        ("demo,runtime=flag,level=3,deep.name=T", {}, {}, {"runtime": "flag", "level": 3, "deep.name": True}),
        ('demo,"words=a,b"', {}, {}, {"words": ["a", "b"]}),
        ("demo", {RUNTIME: "variable"}, {}, {"runtime": "variable"}),
        ("demo", {"IMG_EXECUTOR_DEMO_DEEP_NAME": "0"}, {}, {"deep.name": False}),
        ("demo", {"OLD_NAME": "old"}, {}, {"runtime": "old"}),
        ("demo", {"OLD_NAME": "old", RUNTIME: "new"}, {}, {"runtime": "new"}),
        ("demo", {RUNTIME: ""}, {"user": table("level = 2")}, {"level": 2}),
        ("demo", {}, {"user": table('words = ["a", "b"]\nlevel = "4"')}, {"words": ["a", "b"], "level": 4}),
        ("demo,runtime=flag", {RUNTIME: "variable"}, {"user": table('runtime = "user"')}, {"runtime": "flag"}),
        ("demo", {RUNTIME: "variable"}, {"user": table('runtime = "user"')}, {"runtime": "variable"}),
        ("demo", {"OLD_NAME": "old"}, {"user": table('runtime = "user"')}, {"runtime": "old"}),
        ("demo", {}, {"admin": table('runtime = "admin"'), "user": table('runtime = "user"')}, {"runtime": "user"}),
        ("demo", {}, {"distro": table('runtime = "d"'), "admin": table('runtime = "admin"')}, {"runtime": "admin"}),
        ("demo", {}, {"distro": table("level = 1"), "user": table('runtime = "u"')}, {"level": 1, "runtime": "u"}),
        ("auto", {}, {"user": '[order]\nexecutor = ["demo"]\n' + table("level = 7")}, {"level": 7}),
        ("demo", {"IMG_EXECUTOR_DEMO_PLAIN_X": "of another driver, whose name is longer"}, {}, {}),
        ("demo", {"IMG_EXECUTOR_DEMO_GONE_X": "1"}, {"user": '[order]\nexecutor = ["demo-gone"]\n'}, {}),
    ],
)
def test_the_nearest_place_wins(
    make: Make, typed: str, variables: dict[str, str], files: dict[str, str], expected: dict[str, Any]
) -> None:
    made = make(variables=variables, **files).make("executor", typed, HOST, host=HOST)
    assert made.options == expected
    assert type(made).asked == [expected or None]  # a probe hears of options if there are any


MISTAKES = {
    "an option, typed": ("demo,runtim=x", {}, "", ["unknown option `runtim` for executor `demo`"], "`runtime`"),
    "a value, typed": ("demo,level=much", {}, "", ["`level` must be a whole number, not `much`"], ""),
    "no value": ("demo,runtime", {}, "", ["invalid option `runtime` of executor `demo`"], "key=value"),
    "no name": ("runtime=x", {}, "", ["`runtime=x` names no executor"], "NAME,key=value"),
    "nothing": ("", {}, "", ["names no executor"], ""),
    "auto with options": ("auto,level=1", {}, "", ["options need the name of the executor"], ""),
    "an option of a driver without": ("demo-plain,x=1", {}, "", ["unknown option `x`"], "it takes no options"),
    "an option in a file": ("demo", {}, table("runtim = 1"), ["`runtim`", "config.toml"], "`runtime`"),
    "a value in a file": ("demo", {}, table("level = 10"), ["at most 9, not 10", "config.toml"], ""),
    "a type in a file": ("demo", {}, table("runtime = 5"), ["`runtime` must be text, not 5", "config.toml"], ""),
    "a boolean for a number": ("demo", {}, table("level = true"), ["a whole number, not True", "config.toml"], ""),
    "a driver in a file": ("demo", {}, table("x = 1", "deemo"), ["no executor is named `deemo`", "config.toml"], "`demo`"),
    "a table of another driver": ("demo", {}, table("x = 1", "wide"), ["unknown option `x`", "config.toml"], ""),
    "a table of another kind": ("demo", {}, "[exporter.ocii]\n", ["no exporter is named `ocii`"], "`oci`"),
    "a value in a variable": ("demo", {"IMG_EXECUTOR_DEMO_LEVEL": "x"}, "", ["not `x`, in IMG_EXECUTOR_DEMO_LEVEL"], ""),
    "a variable": ("demo", {f"{RUNTIME}S": "x"}, "", [f"{RUNTIME}S"], f"did you mean `{RUNTIME}`?"),
}  # fmt: skip


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_names_its_place_and_the_nearest_word(make: Make, what: str) -> None:
    typed, variables, text, words, hint = MISTAKES[what]
    plugins = make(variables=variables, user=text)
    for call in (lambda: plugins.make("executor", typed, HOST), lambda: plugins.check("executor", typed)):
        with pytest.raises(UsageError) as caught:
            call()
        assert all(word in caught.value.message for word in words), caught.value.message
        assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("[executer.demo]\n", "unknown table `[executer]`", "`executor`"),
        ("[listener.demo]\n", "unknown table `[listener]`", ""),
        ("[executor]\nruntime = 1\n", "`executor` in", "`[executor.NAME]`"),
        ("executor = 1\n", "`executor` in", ""),
    ],
)
def test_a_table_that_means_nothing_is_refused_by_every_command(make: Make, text: str, words: str, hint: str) -> None:
    with pytest.raises(UsageError, match=r"/user/img/config\.toml") as caught:
        make(user=text)
    assert words in caught.value.message
    assert hint in (caught.value.hint or "")


def test_a_wrong_option_does_not_let_auto_take_another_driver(make: Make) -> None:
    plugins = make(user='[order]\nexecutor = ["demo", "wide"]\n', variables={"IMG_EXECUTOR_DEMO_LEVEL": "x"})
    with pytest.raises(UsageError, match="IMG_EXECUTOR_DEMO_LEVEL"):
        plugins.make("executor", "auto", HOST, host=HOST)


def test_tables_of_drivers_that_are_off_or_only_configured_harm_nobody(make: Make) -> None:
    tables = table("x = 1", "wide") + table("x = 1", "runc-embedded")
    plugins = make(user=tables, no_plugins=("executor:wide",))
    assert plugins.make("executor", "demo", HOST).options == {}


def test_drivers_that_were_written_before_options_came_still_work(make: Make) -> None:
    plugins = make()
    assert plugins.make("executor", "before", HOST).host is HOST
    assert plugins.make("executor", "demo-plain", HOST).options == {}
    probed = plugins.make("executor", "before-probe,level=1", HOST, host=HOST)
    assert (probed.options, type(probed).asked) == ({"level": 1}, ["without"])
    assert plugins.make("executor", "wide,level=1", HOST).options == {"level": 1}
    with pytest.raises(PluginError, match="takes no options: its constructor has no argument `options`"):
        plugins.make("executor", "before,level=1", HOST)


def test_options_of_callers_in_python_are_typed_already(make: Make) -> None:
    plugins = make()
    assert plugins.make("executor", Choice("demo", {"level": 3}), HOST).options == {"level": 3}
    with pytest.raises(UsageError, match="`level` must be a whole number, not None"):
        plugins.make("executor", Choice("demo", {"level": None}), HOST)


def test_an_inventory_tells_of_wrong_options(make: Make) -> None:
    found = {info.name: info for info in make(variables={"IMG_EXECUTOR_DEMO_LEVEL": "x"}).inventory()}
    assert (found["demo"].status, found["wide"].status) == ("broken", "ok")
    assert "IMG_EXECUTOR_DEMO_LEVEL" in found["demo"].reason


def test_names_of_variables() -> None:
    assert environment_name("executor", "runc", "runtime") == "IMG_EXECUTOR_RUNC_RUNTIME"
    assert environment_name("source", "docker-image", "a.b-c") == "IMG_SOURCE_DOCKER_IMAGE_A_B_C"
    assert parse_choice("executor", "runc,Runtime=A=b") == Choice("runc", {"runtime": "A=b"})


OURS = [
    info
    for info in Plugins(Config.load(environment={})).inventory(check=False)
    if info.distribution == "img-builder" and info.kind not in WITHOUT_OPTIONS
]


@pytest.mark.parametrize("info", OURS, ids=lambda info: f"{info.kind}:{info.name}")
def test_our_drivers_describe_their_options_and_take_them(info: PluginInfo) -> None:
    driver = Plugins(Config.load(environment={})).driver(info.kind, info.name)
    if driver.schema is None:
        return
    properties = driver.schema["properties"]
    assert [name for name, described in properties.items() if not described.get("description")] == []
    variables = [environment_name(info.kind, info.name, name) for name in properties]
    assert len(set(variables)) == len(variables), "two options share a variable"
    assert "options" in inspect.signature(driver).parameters
