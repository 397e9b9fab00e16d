"""Plugins: found live, switched off without import, checked when loaded; a bad one is an error that names its distribution."""

from __future__ import annotations

import importlib
import sys
import textwrap
import warnings
from typing import TYPE_CHECKING

import pytest

from img_core.config import ADAPTERS, Config, ToggleDirectory
from img_core.plugins import CONTRACT_VERSIONS, GROUPS, KINDS, Plugins, notify
from img_core.spec import Exporter, Host, HostError, PluginError, Unsupported, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Install = Callable[..., None]

EXPORTER = """
    from img_core.spec import Exporter, hookimpl

    class Example(Exporter):
        name = "NAME"
        schema = {"properties": {"dest": {"type": "string"}, "level": {"type": "integer"}, "push": {"type": "boolean"}}}
        PROBE

        def export(self, result, progress):
            return {}

    @hookimpl
    def img_exporter():
        return Example
"""
FRONTEND = """
    from img_core.spec import Frontend, hookimpl

    class Example(Frontend):
        name = "old"

        def plan(self, request, resolver):
            raise NotImplementedError

    @hookimpl
    def img_frontend():
        return Example
"""
FAILING_PROBE = "probe = classmethod(lambda cls, host: FAIL)"
HOST = Host(mapping="none", state_directory="/nonexistent", run_directory="/nonexistent")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return a function that installs a distribution, as pip would leave it: modules and a ``.dist-info`` directory."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def do(distribution: str, group: str, name: str, source: str, *, version: str = "1.0", module: str = "") -> None:
        module = module or distribution.replace("-", "_")
        (site / f"{module}.py").write_text(textwrap.dedent(source))
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        with (info / "entry_points.txt").open("a") as file:
            file.write(f"[{group}]\n{name} = {module}\n")
        importlib.invalidate_caches()

    yield do
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(site) in str(sys.modules[name].__file__):
            del sys.modules[name]


def config(tmp_path: Path, **changes: object) -> Config:
    values: dict[str, object] = {
        "state_directory": str(tmp_path / "state"),
        "config_directory": str(tmp_path / "config"),
    }
    return Config(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def plugins(tmp_path: Path) -> Plugins:
    return Plugins(config(tmp_path))


def exporter(name: str = "example", probe: str = "") -> str:
    return EXPORTER.replace("NAME", name).replace("PROBE", probe)


def test_an_installed_exporter_is_loaded_by_its_name(install: Install, plugins: Plugins) -> None:
    install("img-exporter-example", "img.exporters", "example", exporter())
    driver = plugins.driver("exporter", "example")
    assert issubclass(driver, Exporter)
    assert "example" in plugins.names("exporter")


def test_listing_names_imports_no_plugin(install: Install, plugins: Plugins) -> None:
    install("img-exporter-example", "img.exporters", "example", "raise SystemExit('imported')")
    assert "example" in plugins.names("exporter")
    assert "img_exporter_example" not in sys.modules


def test_inventory_tells_where_a_plugin_comes_from(install: Install, plugins: Plugins) -> None:
    install("img-exporter-example", "img.exporters", "example", exporter(), version="4.2")
    info = next(info for info in plugins.inventory() if info.name == "example")
    assert (info.kind, info.status, info.distribution, info.version) == (
        "exporter",
        "ok",
        "img-exporter-example",
        "4.2",
    )


def test_a_plugin_installed_later_is_seen_by_the_next_command(install: Install, tmp_path: Path) -> None:
    assert "example" not in Plugins(config(tmp_path)).names("exporter")
    install("img-exporter-example", "img.exporters", "example", exporter())
    assert "example" in Plugins(config(tmp_path)).names("exporter")


BROKEN = {
    "an import error": ("import nothing_of_that_name", "nothing_of_that_name"),
    "a syntax error": ("def", "SyntaxError"),
    "an exit": ("raise SystemExit(3)", "SystemExit: 3"),
    "an assertion": ("assert 1 == 2, 'no good'", "AssertionError: no good"),
    "a generator exit": ("raise GeneratorExit", "GeneratorExit"),
    "an unknown hook": (
        EXPORTER + "\n    @hookimpl\n    def img_dance():\n        return 1\n",
        "unknown hook 'img_dance'",
    ),
    "a wrong argument": (
        "from img_core.spec import hookimpl\n@hookimpl\ndef img_exporter(tempo):\n    return None\n",
        "tempo",
    ),
    "no hook": ("x = 1", "implements none"),
    "the hook of another kind": (
        "from img_core.spec import hookimpl\n@hookimpl\ndef img_executor():\n    return None\n",
        "img_executor",
    ),
    "a hook that fails": (
        "from img_core.spec import hookimpl\n@hookimpl\ndef img_exporter():\n    exit(1)\n",
        "SystemExit",
    ),
    "a hook that returns an object": (
        "from img_core.spec import hookimpl\n@hookimpl\ndef img_exporter():\n    return 42\n",
        "must return a subclass of Exporter, not 42",
    ),
    "a hook that returns nothing": (
        "from img_core.spec import hookimpl\n@hookimpl\ndef img_exporter():\n    pass\n",
        "must return a subclass of Exporter, not None",
    ),
    "an abstract class": (
        "from img_core.spec import Exporter, hookimpl\nclass E(Exporter):\n    name = 'x'\n"
        "@hookimpl\ndef img_exporter():\n    return E\n",
        "lacks export",
    ),
    "no name": (EXPORTER.replace('name = "NAME"', ""), "has no `name`"),
    "a future contract": (EXPORTER.replace("PROBE", "api = (2, 3)"), "needs version 2 to 3 of the exporter contract"),
    "a nonsense contract": (EXPORTER.replace("PROBE", "api = 'one'"), "`api` must be a pair"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_plugin_is_an_error_that_names_its_distribution(what: str, install: Install, plugins: Plugins) -> None:
    source, expected = BROKEN[what]
    install("img-exporter-bad", "img.exporters", "bad", source.replace("PROBE", ""), version="6.6")
    with pytest.raises(PluginError) as caught:
        plugins.driver("exporter", "bad")
    assert "exporter:bad of img-exporter-bad 6.6" in caught.value.message
    assert expected in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_plugin_leaves_the_others_alone(what: str, install: Install, plugins: Plugins) -> None:
    install("img-exporter-bad", "img.exporters", "bad", BROKEN[what][0].replace("PROBE", ""))
    install("img-exporter-good", "img.exporters", "good", exporter("good"))
    status = {info.name: info.status for info in plugins.inventory() if info.name in {"bad", "good"}}
    assert status == {"bad": "broken", "good": "ok"}
    assert plugins.driver("exporter", "good").name == "good"


VERSIONS = {
    "the one before, which is adapted": ((1, 1), 2, True, "adapted"),
    "the one before, without an adapter": (
        (1, 1),
        2,
        False,
        "needs version 1 to 1 of the exporter contract, this img has 2",
    ),
    "both": ((1, 2), 2, True, ""),
    "this one": ((2, 2), 2, True, ""),
    "this one and later ones": ((2, 9), 2, True, ""),
    "the next": ((3, 3), 2, True, "needs version 3 to 3 of the exporter contract, this img has 2"),
    "two before": ((1, 1), 3, True, "needs version 1 to 1 of the exporter contract, this img has 3"),
}


def adapted(old: type) -> type:
    return type("Adapted", (old,), {})


@pytest.mark.parametrize("what", VERSIONS)
def test_a_version_of_a_contract_and_the_one_before_are_taken(
    what: str, install: Install, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, ours, adapting, expected = VERSIONS[what]
    monkeypatch.setitem(CONTRACT_VERSIONS, "exporter", ours)
    if adapting:
        monkeypatch.setitem(ADAPTERS, "exporter", f"{__name__}:adapted")
    install("img-exporter-old", "img.exporters", "old", exporter("old", f"api = {api}"), version="0.9")
    install("img-frontend-old", "img.frontends", "old", FRONTEND)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if expected.startswith("needs"):
            with pytest.raises(PluginError, match=expected):
                plugins.driver("exporter", "old")
        else:
            adapted = plugins.driver("exporter", "old").__name__ == "Adapted"
            assert adapted == bool(expected)
    assert [(str(item.message), item.category) for item in told] == (
        [
            (
                "plugin exporter:old of img-exporter-old 0.9 speaks version 1 of the exporter contract;"
                " this img is the last that takes it",
                FutureWarning,
            )
        ]
        if expected == "adapted"
        else []
    )
    assert plugins.driver("frontend", "old").name == "old", "each kind has a version of its own"


def test_ctrl_c_while_a_plugin_is_imported_stops_the_command(install: Install, plugins: Plugins) -> None:
    install("img-exporter-slow", "img.exporters", "slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        plugins.driver("exporter", "slow")


def test_two_distributions_with_one_name_are_both_named(install: Install, plugins: Plugins) -> None:
    install("first-exporter", "img.exporters", "example", exporter())
    install("second-exporter", "img.exporters", "example", exporter())
    with pytest.raises(PluginError, match=r"claimed by .*first-exporter 1\.0") as caught:
        plugins.driver("exporter", "example")
    assert "second-exporter 1.0" in caught.value.message


def test_an_unknown_name_suggests_the_nearest(install: Install, plugins: Plugins) -> None:
    install("img-exporter-example", "img.exporters", "example", exporter())
    with pytest.raises(PluginError, match="no exporter is named `exampel`") as caught:
        plugins.driver("exporter", "exampel")
    assert caught.value.hint == "did you mean `example`?"


# --- switching off ---------------------------------------------------------------------------------------------


@pytest.fixture
def witness(install: Install, tmp_path: Path) -> Path:
    """Install an exporter whose import leaves a file behind; return the path of that file."""
    path = tmp_path / "was-imported"
    install(
        "img-exporter-example",
        "img.exporters",
        "example",
        f"import os\nos.mkdir({str(path)!r})\n" + textwrap.dedent(exporter()),
    )
    return path


def toggles(tmp_path: Path, **files: str) -> tuple[ToggleDirectory, ...]:
    """Write one toggle file per place; return the places in the order of their precedence."""
    for place, text in files.items():
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "10-test.toml").write_text(text)
    places = ("distro", "admin", "user")
    return tuple(ToggleDirectory(str(tmp_path / place), may_lock=place == "admin") for place in places)


OFF = 'disabled = ["exporter:example"]\n'
ON = 'enabled = ["exporter:example"]\n'
LOCK = "locked = true\n"


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": {"IMG_DISABLED_PLUGINS": "executor:runc, exporter:example"}},
        {"environment": {"IMG_DISABLED_PLUGINS": "exporter:*"}},
        {"no_plugins": ("exporter:example",)},
    ],
)
def test_a_plugin_that_is_switched_off_is_not_imported(
    changes: dict[str, object], witness: Path, tmp_path: Path
) -> None:
    plugins = Plugins(config(tmp_path, **changes))
    with pytest.raises(PluginError, match="is switched off by"):
        plugins.driver("exporter", "example")
    assert "example" not in plugins.names("exporter")
    assert "disabled" in {info.status for info in plugins.inventory() if info.name == "example"}
    assert not witness.exists()


def test_the_witness_of_the_import_works(witness: Path, plugins: Plugins) -> None:
    plugins.driver("exporter", "example")
    assert witness.exists()


@pytest.mark.parametrize(
    ("files", "environment", "enabled"),
    [
        ({"distro": OFF}, {}, False),
        ({"distro": OFF, "admin": ON}, {}, True),
        ({"distro": OFF, "admin": ON, "user": OFF}, {}, False),
        ({"admin": OFF, "user": ON}, {}, True),
        ({"admin": OFF + LOCK, "user": ON}, {}, False),
        ({"admin": ON + LOCK, "user": OFF}, {}, True),
        ({"admin": ON + LOCK}, {"IMG_DISABLED_PLUGINS": "exporter:example"}, True),
        ({"admin": 'disabled = ["exporter:*"]\n' + LOCK, "user": ON}, {}, False),
        ({"admin": 'disabled = ["exporter:*"]\nenabled = ["exporter:example"]'}, {}, True),
        ({"admin": ON, "user": 'disabled = ["exporter:*"]'}, {}, False),
        ({"user": ON}, {"IMG_DISABLED_PLUGINS": "exporter:example"}, False),
    ],
)
def test_later_places_win_unless_locked(
    files: dict[str, str], environment: dict[str, str], enabled: bool, witness: Path, tmp_path: Path
) -> None:
    places = toggles(tmp_path, **files)
    plugins = Plugins(config(tmp_path, toggle_directories=places, environment=environment))
    assert ("example" in plugins.names("exporter")) is enabled


def test_the_message_says_which_file_switched_it_off(witness: Path, tmp_path: Path) -> None:
    plugins = Plugins(config(tmp_path, toggle_directories=toggles(tmp_path, admin=OFF)))
    with pytest.raises(PluginError, match=r"switched off by .*/admin/10-test\.toml"):
        plugins.driver("exporter", "example")


def test_a_locked_plugin_cannot_be_switched_off_by_the_flag(tmp_path: Path) -> None:
    places = toggles(tmp_path, admin=ON + LOCK)
    with pytest.raises(UsageError, match="locked by"):
        Plugins(config(tmp_path, toggle_directories=places, no_plugins=("exporter:example",))).names("exporter")


@pytest.mark.parametrize(
    "text",
    [
        "locked = true",
        "disabled = 'exporter:tar'",
        "unknown = 1",
        "disabled = ['tar']",
        "disabled = ['exporters:tar']",
        "=",
    ],
)
def test_a_bad_toggle_file_is_named(text: str, tmp_path: Path) -> None:
    places = toggles(tmp_path, user=text)
    with pytest.raises(UsageError, match=r"10-test\.toml"):
        Plugins(config(tmp_path, toggle_directories=places)).names("exporter")


def test_the_variable_of_the_original_img_switches_the_embedded_runc_off(install: Install, tmp_path: Path) -> None:
    install("img-runc-embedded", "img.executors", "runc-embedded", "raise SystemExit")
    plugins = Plugins(config(tmp_path, environment={"IMG_DISABLE_EMBEDDED_RUNC": "1"}))
    with pytest.raises(PluginError, match="switched off by IMG_DISABLE_EMBEDDED_RUNC"):
        plugins.driver("executor", "runc-embedded")


# --- choosing --------------------------------------------------------------------------------------------------


def test_auto_takes_the_first_that_works(install: Install, tmp_path: Path) -> None:
    unsupported = "def probe(cls, host):\n            from img_core.spec import Unsupported\n            raise Unsupported('too old')\n"
    install("a", "img.exporters", "a", exporter("a", "@classmethod\n        " + unsupported))
    install("b", "img.exporters", "b", exporter("b"))
    plugins = Plugins(config(tmp_path, order={"exporter": ("gone", "a", "b")}))
    assert plugins.select("exporter", ["auto"], HOST).name == "b"


#: the order, what claims, what is switched off -> which is taken, or the error
CLAIMS = {
    "the second": (("a", "b"), "b", "", "b"),
    "nobody": (("a", "b"), "", "", "a"),
    "one outside of the order": (
        ("a",),
        "b",
        "",
        r'exporter `b` is for this, if config.toml has `\[order\] exporter = \[\.\.\., "b"\]`',
    ),
    "a broken one outside of the order": (("a",), "c", "", "a"),
    "one that is switched off": (("a",), "b", "a", "a"),
    "one that is not there": (("gone",), "b", "", "gone"),
}


@pytest.mark.parametrize("what", CLAIMS)
def test_what_there_is_to_do_goes_to_who_claims_it(install: Install, tmp_path: Path, what: str) -> None:
    order, claiming, off, expected = CLAIMS[what]
    for name in "ab":
        install(name, "img.exporters", name, exporter(name))
    install("c", "img.exporters", "c", "1 / 0")
    plugins = Plugins(config(tmp_path, order={"exporter": order}, no_plugins=(f"exporter:{off}",) if off else ()))

    def found() -> str:
        return plugins.claiming("exporter", lambda driver: bool(driver.name == claiming))

    if expected in (*"ab", "gone"):
        assert found() == expected
    else:
        with pytest.raises(PluginError, match=expected):
            found()


def test_when_none_works_every_candidate_has_its_reason(install: Install, tmp_path: Path) -> None:
    unsupported = "def probe(cls, host):\n            from img_core.spec import Unsupported\n            raise Unsupported('too old')\n"
    install("a", "img.exporters", "a", exporter("a", "@classmethod\n        " + unsupported))
    install(
        "b", "img.exporters", "b", exporter("b", "@classmethod\n        def probe(cls, host):\n            1 / 0\n")
    )
    install("c", "img.exporters", "c", exporter("c"))
    plugins = Plugins(config(tmp_path, order={"exporter": ("a", "b", "c", "d")}, no_plugins=("exporter:c",)))
    with pytest.raises(HostError) as caught:
        plugins.select("exporter", ["auto"], HOST)
    for part in ("a: too old", "b: ", "division by zero", "c: exporter `c` is switched off", "d: no exporter is named"):
        assert part in caught.value.message
    assert "\n" not in caught.value.message


def test_a_driver_asked_for_by_name_fails_with_its_own_reason(install: Install, plugins: Plugins) -> None:
    unsupported = "def probe(cls, host):\n            from img_core.spec import Unsupported\n            raise Unsupported('too old')\n"
    install("a", "img.exporters", "a", exporter("a", "@classmethod\n        " + unsupported))
    with pytest.raises(Unsupported, match=r"^too old$"):
        plugins.select("exporter", ["a"], HOST)


@pytest.mark.parametrize(("lasts", "asked"), [("True", 1), ("False", 2)])
def test_a_probe_that_lasts_is_not_asked_again_where_it_passed(
    install: Install, tmp_path: Path, lasts: str, asked: int
) -> None:
    probe = f"probe_lasts = {lasts}\n        probe = classmethod(lambda cls, host: cls.asked.append(host))\n        asked = []"
    install("a", "img.exporters", "a", exporter("a", probe))
    plugins = Plugins(config(tmp_path))
    host = Host("full", str(tmp_path), str(tmp_path))
    for _ in range(2):
        driver = plugins.select("exporter", ["a"], host)
    assert len(driver.asked) == asked


# --- options ---------------------------------------------------------------------------------------------------


def test_options_get_the_types_of_the_schema(install: Install, plugins: Plugins) -> None:
    install("img-exporter-example", "img.exporters", "example", exporter())
    typed = plugins.options("exporter", "example", {"dest": "1", "level": "9", "push": "T"})
    assert typed == {"dest": "1", "level": 9, "push": True}


def test_an_unknown_option_is_refused_with_a_suggestion(install: Install, plugins: Plugins) -> None:
    install("img-exporter-example", "img.exporters", "example", exporter())
    with pytest.raises(UsageError, match="unknown option `dset` for type=example") as caught:
        plugins.options("exporter", "example", {"dset": "x"})
    assert caught.value.hint == "did you mean `dest`?"


# --- listeners -------------------------------------------------------------------------------------------------

LISTENER = """
    from img_core.spec import hookimpl

    seen = []

    @hookimpl
    def img_step_finished(vertex, seconds):
        seen.append((vertex, seconds))
        BODY
"""


def test_listeners_are_called_through_hooks_and_may_ask_for_fewer_arguments(install: Install, plugins: Plugins) -> None:
    install("img-notify", "img.plugins", "notify", LISTENER.replace("BODY", ""))
    plugins.listeners().img_step_finished(vertex="v", cached=False, seconds=1.5)
    assert sys.modules["img_notify"].seen == [("v", 1.5)]


def test_a_failing_observer_does_not_keep_the_others_from_being_called(install: Install, plugins: Plugins) -> None:
    install("img-good", "img.plugins", "good", LISTENER.replace("BODY", ""))
    install("img-bad", "img.plugins", "bad", LISTENER.replace("BODY", "1 / 0"))
    failures = notify(plugins.listeners(), "img_step_finished", vertex="v", cached=True, seconds=0.0)
    assert [failure.message for failure in failures] == [
        "plugin listener:bad of img-bad 1.0 failed: ZeroDivisionError: division by zero (in `img_step_finished`)"
    ]
    assert sys.modules["img_good"].seen == [("v", 0.0)]


def test_a_broken_listener_stops_a_build_because_it_may_be_a_policy(install: Install, plugins: Plugins) -> None:
    install("img-policy", "img.plugins", "policy", "import nothing_of_that_name")
    with pytest.raises(PluginError, match=r"listener:policy of img-policy 1\.0"):
        plugins.listeners()


def test_a_listener_may_not_provide_drivers(install: Install, plugins: Plugins) -> None:
    install("img-sneaky", "img.plugins", "sneaky", exporter())
    with pytest.raises(PluginError, match="belongs into a group of its own"):
        plugins.listeners()


# --- the plugins of the project itself -------------------------------------------------------------------------


def test_every_kind_has_a_group_and_a_contract() -> None:
    from img_core.plugins._kinds import contract
    from img_core.spec.hooks import DRIVER_HOOKS

    assert set(DRIVER_HOOKS) == set(KINDS) - {"listener"}
    assert all(isinstance(contract(kind), type) for kind in DRIVER_HOOKS)
    assert len(set(GROUPS.values())) == len(GROUPS)


def test_the_reference_names_every_kind_group_and_hook() -> None:
    from pathlib import Path

    from img_core.spec import hooks

    page = (Path(__file__).parents[2] / "docs" / "reference" / "plugins.md").read_text()
    all_hooks = [name for name in vars(hooks) if name.startswith("img_")]
    missing = [word for word in (*GROUPS, *GROUPS.values(), *all_hooks) if f"`{word}" not in page]
    assert missing == []
