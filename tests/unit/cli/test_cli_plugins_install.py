"""Which command installs a plugin, for each kind of environment; `tests/packaging/test_plugins_install.py` does it."""

from __future__ import annotations

import pytest

from img_core.cli.plugin_install import PythonPlace, install_command, requirement
from img_core.spec.errors import HostError, UsageError

PIP = ["/p/bin/python", "-m", "pip", "install", "--disable-pip-version-check"]


def place(**facts: object) -> PythonPlace:
    return PythonPlace("/p/bin/python", "/p", **{"virtual": False, **facts})  # type: ignore[arg-type]


WAYS: dict[str, tuple[PythonPlace, list[str]]] = {
    "venv": (place(virtual=True), [*PIP, "img-x"]),
    "venv of another user": (place(virtual=True, writable=False), [*PIP, "img-x"]),
    "pipx": (place(virtual=True, pipx="img-builder"), ["pipx", "inject", "img-builder", "img-x"]),
    "own Python": (place(), [*PIP, "img-x"]),
    "Python of root, img of the user": (place(writable=False), [*PIP, "--user", "img-x"]),
}


@pytest.mark.parametrize("case", WAYS)
def test_the_command_fits_the_environment(case: str) -> None:
    where, wanted = WAYS[case]
    assert install_command(where, ["img-x"]) == wanted


def test_options_reach_pip_through_pipx() -> None:
    made = install_command(place(virtual=True, pipx="img-builder"), ["--no-index", "--find-links=a b", "img-x"])
    assert made == ["pipx", "inject", "--pip-args=--no-index '--find-links=a b'", "img-builder", "img-x"]


def test_where_the_system_forbids_it_there_is_one_line_to_type() -> None:
    with pytest.raises(HostError, match="EXTERNALLY-MANAGED` forbids") as caught:
        install_command(place(managed="/usr/lib/python3.12/EXTERNALLY-MANAGED"), ["img-x"])
    assert "`/p/bin/python -m pip install --user --break-system-packages img-x`" in (caught.value.hint or "")


def test_without_pip_there_is_one_line_to_type() -> None:
    with pytest.raises(HostError, match="there is no pip in `/p`") as caught:
        install_command(place(virtual=True, has_pip=False), ["img-x"])
    assert "uv pip install --python /p/bin/python img-x" in (caught.value.hint or "")


NAMES = {
    "exporter:squashfs": "img-exporter-squashfs",
    "img-exporter-squashfs": "img-exporter-squashfs",
    "img-x[fast]>=1.2,<2": "img-x[fast]>=1.2,<2",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_those_of_distributions(name: str) -> None:
    assert requirement(name) == NAMES[name]


@pytest.mark.parametrize(
    "name", ["", "-r", "--index-url=http://x", "nokind:x", "a b", "git+https://x/y", "../x", "exporter:x y"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is no name of a distribution"):
        requirement(name)
