"""Wherever something is made at a place of the user's choice: one that takes no files is one line that names it, with a hint."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from img_cache_local._layout import SharedLayout
from img_core.cli._toggle_file import switch
from img_core.config import Config
from img_core.files.appearing import appearing
from img_core.files.fs import ReadFile
from img_core.files.output import open_output, output_path
from img_core.images import oci
from img_core.spec.errors import ImgError
from img_core.spec.values import Credentials
from img_core.store import Store
from img_core.testing.results import Recorder, host, make_result
from img_core.testing.templates import write_project
from img_exporter_local._local import LocalExporter
from img_exporter_oci._oci import OciExporter
from img_lib_credentials import AuthFile

Make = Callable[[str, Path], object]


def unpack(place: str, tmp_path: Path) -> None:
    with appearing(place, state=str(tmp_path)):
        pass


def unpack_from(source: str, place: str) -> None:
    with appearing(place, state=os.path.dirname(place)), ReadFile(source) as file:
        file.read()


def copy_from(source: str, place: str) -> None:
    with open_output(place) as output, ReadFile(source) as file:
        output.write(file.read())


def export(exporter: type[LocalExporter | OciExporter]) -> Make:
    def make(place: str, tmp_path: Path) -> None:
        options = {"dest": place} if exporter is LocalExporter else {"dest": place, "tar": False}
        exporter(host(tmp_path), options).export(make_result(tmp_path), Recorder())

    return make


def write(place: str, tmp_path: Path) -> None:
    with open_output(place) as file:
        file.write(b"x")


def let_write(place: str, tmp_path: Path) -> None:
    with output_path(place):
        pass


@pytest.mark.parametrize("make", [unpack_from, copy_from])
def test_what_cannot_be_read_is_not_blamed_on_the_destination(tmp_path: Path, make: Callable[[str, str], None]) -> None:
    """The memory of a process has nothing at its begin: to read there is an input/output error."""
    place = str(tmp_path / "place")
    with pytest.raises(ImgError, match=r"^input/output error: `/proc/self/mem`$"):
        make("/proc/self/mem", place)
    with pytest.raises(ImgError, match=rf"^cannot read `{tmp_path}`: is a directory$"):
        make(str(tmp_path), place)
    assert not os.path.lexists(place)


MAKERS: dict[str, Make] = {
    "state": lambda place, _: Store(place, writable=True).close(),
    "unpack": unpack,
    "local": export(LocalExporter),
    "a-layout": export(OciExporter),
    "a-file": write,
    "a-file-of-a-program": let_write,
    "a-cache": lambda place, _: SharedLayout(place, "latest").publish("latest", oci.canonical_json({})),
    "switching-off": lambda place, tmp_path: switch(
        replace(Config.load(environment={"HOME": str(tmp_path)}), config_directory=place), "exporter:tar", enabled=False
    ),
    "a-login": lambda place, _: AuthFile(f"{place}/config.json", {}).store("host", Credentials("a", "b")),
    "a-project": lambda place, _: write_project("exporter", "mine", place),
}


def a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"")
    return tmp_path / "file"


def a_loop(tmp_path: Path) -> Path:
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path / "loop"


#: errno by errno: ENOENT, EACCES or EPERM or EROFS, ENOTDIR or EEXIST, ELOOP or EEXIST, ENAMETOOLONG
PLACES: dict[str, Callable[[Path], str]] = {
    "proc": lambda _: "/proc/x",
    "sys": lambda _: "/sys/x",
    "below-a-file": lambda tmp_path: str(a_file(tmp_path) / "x"),
    "a-loop": lambda tmp_path: str(a_loop(tmp_path) / "x"),
    "too-long": lambda tmp_path: str(tmp_path / ("n" * 300)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("maker", MAKERS)
def test_a_place_that_takes_no_files_is_one_line_with_a_hint(tmp_path: Path, maker: str, place: str) -> None:
    wrong = PLACES[place](tmp_path)
    with pytest.raises(ImgError) as caught:
        MAKERS[maker](wrong, tmp_path)
    message = caught.value.message
    assert "\n" not in message
    assert os.path.dirname(wrong) in message
    assert caught.value.hint or "read-only" in message or maker == "switching-off", message
    assert "file exists" not in message
