"""Authors of plugins can tell by a version whether what they use is still there."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import img_core.spec
from harness.repository import ROOT
from img_core.plugins import CONTRACT_VERSIONS


@pytest.fixture(scope="module")
def surface() -> ModuleType:
    spec = importlib.util.spec_from_file_location("surface", ROOT / "contrib/release/surface.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_changed_since_the_last_release_raised_a_version(surface: ModuleType) -> None:
    assert surface.check(ROOT) == []


def test_the_version_of_the_contracts_is_the_highest_one_that_drivers_are_checked_by(surface: ModuleType) -> None:
    assert int(img_core.spec.__version__.partition(".")[0]) == max(CONTRACT_VERSIONS.values())


def test_every_library_is_listed_with_what_is_in_it(surface: ModuleType) -> None:
    found = {library.name: surface.surface(library) for library in surface.libraries(ROOT)}
    assert {"spec", "linux", "forms", "files", "archives", "images", "net", "img_lib_layers"} <= set(found)
    assert (
        found["spec"]["exporter.Exporter.export"]
        == "abstract (self, result: Result, progress: ExportProgress) -> Mapping[str, Any]"
    )
    assert found["files"]["copy.select"] == "(tree: SourceTree, copy: Copy) -> Selection"  # from a private module
    assert found["images"]["contents.ImageContent.manifest"] == "Descriptor"
    assert all(found.values())


@pytest.mark.parametrize(
    ("now", "version", "said"),
    [
        pytest.param({"a": "()"}, "1.2", "", id="the-same"),
        pytest.param({"a": "()", "b": "()"}, "1.2", "b came: it needs version 1.3", id="more"),
        pytest.param({"a": "()", "b": "()"}, "1.3", "", id="more-and-raised"),
        pytest.param({}, "1.3", "a changed: it needs version 2.0", id="gone"),
        pytest.param({"a": "(x)"}, "1.3", "a changed: it needs version 2.0", id="another-signature"),
        pytest.param({"b": "()"}, "2.0", "", id="gone-and-raised"),
        pytest.param({"a": "()", "a.b": "abstract ()"}, "1.3", "a.b changed: it needs version 2.0", id="demanded"),
        pytest.param({"a": "()", "a.b": "abstract ()"}, "2.0", "", id="demanded-and-raised"),
        pytest.param({"a": "()", "b": "class()", "b.c": "abstract ()"}, "1.3", "", id="demanded-of-what-came"),
        pytest.param({"a": "abstract ()"}, "1.2", "", id="recorded-before-abstract-was"),
    ],
)
def test_the_smaller_number_is_for_what_came_and_the_first_for_what_went(
    surface: ModuleType, now: dict[str, str], version: str, said: str
) -> None:
    assert surface.problems({"a": "()"}, now, version, "1.2") == ([said] if said else [])


FUNCTION = "(self, a: int, *, b: str=…) -> int"


@pytest.mark.parametrize(
    ("now", "takes_more"),
    [
        pytest.param("(self, a: int, *, b: str=…, c: int | None=…) -> int", True, id="by-name"),
        pytest.param("(self, a: int, *, aa: dict[str, int]=…, b: str=…) -> int", True, id="another-order-of-names"),
        pytest.param("(self, a: int, c: int=…, *, b: str=…) -> int", True, id="by-place"),
        pytest.param("(self, a: int, *, b: str=…, c: int | None) -> int", False, id="demanded"),
        pytest.param("(self, c: int=…, a: int=…, *, b: str=…) -> int", False, id="before-the-others"),
        pytest.param("(self, a: int, *more: int, b: str=…) -> int", False, id="any-number"),
        pytest.param("(self, a: int, *, c: str=…) -> int", False, id="another-name"),
        pytest.param("(self, a: int, *, b: bytes=…, c: str=…) -> int", False, id="another-type"),
        pytest.param("(self, a: int, *, b: str=…, c: str=…) -> str", False, id="another-result"),
        pytest.param("(self, a: int) -> int", False, id="less"),
        pytest.param("class()", False, id="no-function"),
    ],
)
@pytest.mark.parametrize("written", ["class()", "class(ABC)", "class(Generic[T], Protocol)", "class(Base)"])
def test_what_may_be_given_came_unless_others_write_the_method(
    surface: ModuleType, now: str, takes_more: bool, written: str
) -> None:
    known = {"m.K": written, "m.Base": "class()", "m.Base.do": "abstract (self)"}
    came = takes_more and written == "class()"
    said = "m.K.f takes more: it needs version 1.3" if came else "m.K.f changed: it needs version 2.0"
    before, after = {"m.K.f": FUNCTION, **known}, {"m.K.f": now, **known}
    assert surface.problems(before, after, "1.2", "1.2") == [said]
    assert surface.problems(before, after, "1.3", "1.2") == ([] if came else [said])


def test_a_function_that_took_anything_means_something_else_when_it_takes_more(surface: ModuleType) -> None:
    said = ["f changed: it needs version 2.0"]
    assert surface.problems({"f": "(**more: int)"}, {"f": "(*, a: int=…, **more: int)"}, "1.3", "1.2") == said


CODE = """__all__ = ["A", "b"]
class A:
    size: int = 1
    _own: int
    def get(self, name: str = "x", *, twice=False) -> int: ...
    def _hidden(self) -> None: ...
def b(): ...
def c(): ...
"""


@pytest.fixture
def repository(tmp_path: Path, surface: ModuleType) -> Path:
    for library in surface.CORE:
        (tmp_path / "img_core" / library).mkdir(parents=True)
        (tmp_path / "img_core" / library / "__init__.py").write_text('__version__ = "1.0"\n')
    (tmp_path / "img_core/files/m.py").write_text(CODE)
    surface.record(tmp_path)
    return tmp_path


def test_a_surface_has_signatures_without_defaults_and_nothing_private(surface: ModuleType, repository: Path) -> None:
    assert (repository / "contrib/release/surfaces/files.txt").read_text().splitlines() == [
        "1.0", "m.A: class()", "m.A.get: (self, name: str=…, *, twice=…) -> int", "m.A.size: int = …", "m.b: ()",
    ]  # fmt: skip


def test_a_changed_library_needs_a_version_of_its_own_and_of_the_contracts(
    surface: ModuleType, repository: Path
) -> None:
    (repository / "img_core/files/m.py").write_text(CODE.replace("def b(): ...", "def b(x): ..."))
    assert surface.check(repository) == ["files: m.b changed: it needs version 2.0"]
    (repository / "img_core/files/__init__.py").write_text('__version__ = "2.0"\n')
    assert surface.check(repository) == [
        "spec: plugins rely on the libraries, too: its first number is raised with theirs"
    ]
    (repository / "img_core/spec/__init__.py").write_text('__version__ = "2.0"\n')
    assert surface.check(repository) == []


@pytest.mark.parametrize(
    ("arguments", "records"), [([], False), (["--check"], False), (["--record"], True)], ids=["none", "check", "record"]
)
def test_the_command_overwrites_the_record_only_if_told_to(
    surface: ModuleType, repository: Path, arguments: list[str], records: bool
) -> None:
    (repository / "img_core/files/m.py").write_text(CODE.replace("def b(): ...", "def b(x): ..."))
    said = surface.main(arguments, repository)
    assert said == (None if records else "files: m.b changed: it needs version 2.0")
    assert (surface.check(repository) == []) is records


@pytest.mark.parametrize("arguments", [["--record", "--check"], ["record"]])
def test_the_command_does_nothing_if_it_is_told_nonsense(
    surface: ModuleType, repository: Path, arguments: list[str]
) -> None:
    (repository / "img_core/files/m.py").write_text(CODE.replace("def b(): ...", "def b(x): ..."))
    with pytest.raises(SystemExit):
        surface.main(arguments, repository)
    assert surface.check(repository) != []


def test_what_plugins_of_the_last_release_import_is_there(surface: ModuleType) -> None:
    records = {name: ROOT / "contrib/release/surfaces" / f"{name}.txt" for name in surface.CORE}
    lost = [
        f"{library}.{name}"
        for library, record in records.items()
        if record.exists()  # else it is newer
        for name in (line.split(": ")[0] for line in record.read_text(encoding="utf-8").splitlines()[1:])
        if not _can_be_imported(f"img_core.{library}", name.split("."))
    ]
    assert lost == []


def _can_be_imported(module: str, path: list[str]) -> bool:
    found = importlib.import_module(module)
    for number, part in enumerate(path):
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = importlib.import_module(".".join([module, *path[: number + 1]]))
            except ModuleNotFoundError:
                return False
        if not isinstance(found, ModuleType):
            return True  # its parts are for those who call it
    return True
