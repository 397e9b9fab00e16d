"""What authors of plugins may rely on: the names and signatures of the contracts and the libraries, as they were at the last release.

``python contrib/release/surface.py`` tells which version has to be raised for what changed since; only with ``--record``, as a release
calls it, it writes down what there is now. The sources are read, not imported.
"""

from __future__ import annotations

import ast
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["Surface", "libraries", "main", "problems", "surface"]

ROOT = Path(__file__).resolve().parents[2]
CORE = ("spec", "linux", "forms", "files", "archives", "images", "net")

#: name -> signature, e.g. ``tar.TarReader.read`` -> ``(size: int=…) -> bytes``, with `ABSTRACT` before what drivers have to write
Surface = dict[str, str]
ABSTRACT = "abstract "


def libraries(root: Path) -> list[Path]:
    """Return the folders of the contracts, of the libraries, and of those that plugins share."""
    shared = sorted(path.parent for path in root.glob("plugins/img_lib_*/__init__.py"))
    return [*(root / "img_core" / name for name in CORE), *shared]


def surface(library: Path) -> Surface:
    """Return what is public in the modules of *library* that have no ``_`` in front."""
    found: Surface = {}
    for path in sorted(library.rglob("*.py")):
        parts = [part for part in path.relative_to(library).with_suffix("").parts if part != "__init__"]
        if not any(part.startswith("_") for part in parts):
            tree = _parse(path)
            for name in _listed(tree):
                found.update(_described(".".join([*parts, name]), name, path, tree))
    return found


def _described(shown: str, name: str, path: Path, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Give *name* of the module *tree* at *path* under the name *shown*, and of a class its public parts."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef() if node.name == name:
                yield shown, f"class({', '.join(map(ast.unparse, node.bases))})"
                yield from _members(shown, node)
                return
            case ast.FunctionDef() if node.name == name:
                yield shown, _signature(node)
                return
            case ast.AnnAssign(target=ast.Name(id=found)) if found == name:
                yield shown, ast.unparse(node.annotation)
                return
            case ast.Assign(targets=[ast.Name(id=found)]) if found == name:
                yield shown, "value"
                return
            case ast.ImportFrom(module=str(module)) if any((item.asname or item.name) == name for item in node.names):
                original = next(item.name for item in node.names if (item.asname or item.name) == name)
                home = _home(path, module)
                if home is not None:
                    yield from _described(shown, original, home, _parse(home))
                return


def _members(shown: str, node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for item in node.body:
        match item:
            case ast.FunctionDef(name=name) if not name.startswith("_") or name == "__init__":
                abstract = any(ast.unparse(word) == "abstractmethod" for word in item.decorator_list)
                yield f"{shown}.{name}", (ABSTRACT if abstract else "") + _signature(item)
            case ast.AnnAssign(target=ast.Name(id=name)) if not name.startswith("_"):
                yield f"{shown}.{name}", ast.unparse(item.annotation) + ("" if item.value is None else " = …")


def _signature(node: ast.FunctionDef) -> str:
    """Return arguments and result; what a default is is ours to change."""
    arguments = ast.parse(ast.unparse(node)).body[0]
    assert isinstance(arguments, ast.FunctionDef)
    values = arguments.args
    values.defaults = [ast.Name("…") for _ in values.defaults]
    values.kw_defaults = [None if value is None else ast.Name("…") for value in values.kw_defaults]
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(values)}){result}"


def _home(path: Path, module: str) -> Path | None:
    """Return the file of *module*, which the module at *path* imports, if it is one of ours."""
    top = next(above for above in path.parents if above.name in ("img_core", "plugins")).parent
    for root in (top, top / "plugins"):
        place = root.joinpath(*module.split("."))
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file
    return None


def _listed(tree: ast.Module) -> list[str]:
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List() as value):
                names: list[str] = ast.literal_eval(value)
                return names
    return []


def _version(library: Path) -> str:
    for node in _parse(library / "__init__.py").body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__version__")], value=ast.Constant(value=str(value))):
                return value
    raise ValueError(f"{library.name} has no `__version__`")


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------------------------------ comparing


def problems(recorded: Mapping[str, str], now: Mapping[str, str], version: str, before: str) -> list[str]:
    """Say why *version* is not enough for the change from *recorded*, of version *before*, to *now*.

    The first number is raised when something went or means something else, the second when something came, or may be given. An abstract
    method that came to a class that was there means that who wrote the class before has not what it takes now.
    """
    major, minor = (int(part) for part in version.split("."))
    old_major, old_minor = (int(part) for part in before.split("."))
    changed = sorted(
        [name for name in recorded if _form(now.get(name)) != _form(recorded[name])]
        + [name for name in now.keys() - recorded.keys() if now[name].startswith(ABSTRACT) and _class(name) in recorded]
    )
    more = [name for name in changed if name in now and not _is_written_by_others(_class(name), now)]
    more = [name for name in more if _takes_more(recorded.get(name, ""), now[name])]
    if len(more) < len(changed):
        names = ", ".join([name for name in changed if name not in more][:5])
        return [] if major > old_major else [f"{names} changed: it needs version {old_major + 1}.0"]
    came = sorted(now.keys() - recorded.keys())
    told = [f"{', '.join(names[:5])} {what}" for names, what in ((came, "came"), (more, "takes more")) if names]
    if told and (major, minor) <= (old_major, old_minor):
        return [f"{', '.join(told)}: it needs version {major}.{old_minor + 1}"]
    return []


def _form(signature: str | None) -> str | None:
    """Return what callers see of a signature: who writes the method is no matter of theirs."""
    return signature and signature.removeprefix(ABSTRACT)


def _is_written_by_others(name: str, known: Mapping[str, str]) -> bool:
    """Tell whether plugins may derive from the class *name*: whoever wrote one of its methods before takes no more than it took then."""
    bases = known.get(name, "").removeprefix("class(").removesuffix(")").replace("[", ", ").split(", ")
    if {"ABC", "Protocol"} & {base.rpartition(".")[2] for base in bases}:
        return True
    if any(_class(item) == name and signature.startswith(ABSTRACT) for item, signature in known.items()):
        return True
    return any(
        _is_written_by_others(f"{_class(name)}.{base}".lstrip("."), known)
        for base in bases
        if base not in ("", name.rpartition(".")[2])
    )


def _takes_more(old: str, new: str) -> bool:
    """Tell whether a function with the signature *new* can be called like one with the signature *old*, and has more that may be given."""
    if not (old.startswith("(") and new.startswith("(")):
        return False
    before, after = (_parameters(signature) for signature in (old, new))
    places = [place for place, parameter in before.items() if after.get(place) != parameter]
    added = [parameter for place, parameter in after.items() if place not in before]
    return not places and "**" not in before and all(parameter.endswith("=...") for parameter in added)


def _parameters(signature: str) -> dict[int | str, str]:
    """Return the parts of a signature by what callers know them by: a number, a name, ``*``, ``**`` or ``->``."""
    function = ast.parse(f"def f{signature.replace('…', '...')}: ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    defaults = [False] * (len(positional) - len(given.defaults)) + [True] * len(given.defaults)
    found: dict[int | str, str] = {"->": ast.unparse(function.returns) if function.returns else ""}
    placed = zip(positional, defaults, strict=True)
    found |= {number: _shown(item, default=default) for number, (item, default) in enumerate(placed)}
    named = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    found |= {item.arg: _shown(item, default=value is not None) for item, value in named}
    return found | {mark: _shown(item) for mark, item in (("*", given.vararg), ("**", given.kwarg)) if item}


def _shown(parameter: ast.arg, *, default: bool = False) -> str:
    return ast.unparse(parameter) + ("=..." if default else "")


def _class(name: str) -> str:
    return name.rpartition(".")[0]


def _file(root: Path, library: Path) -> Path:
    return root / "contrib/release/surfaces" / f"{library.name}.txt"


def _read(path: Path) -> tuple[str, Surface]:
    """Return the recorded version and surface."""
    version, *lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(": ") for line in lines)
    return version, {name: signature for name, _, signature in pairs}


def check(root: Path) -> list[str]:
    """Return what is wrong with the versions of the repository at *root*."""
    wrong, raised = [], False
    for library in libraries(root):
        path = _file(root, library)
        if not path.is_file():
            continue  # it was in no release yet
        before, recorded = _read(path)
        version = _version(library)
        wrong += [f"{library.name}: {problem}" for problem in problems(recorded, surface(library), version, before)]
        raised |= library.parent.name == "img_core" and version.split(".")[0] != before.split(".")[0]
    spec = _file(root, root / "img_core/spec")
    if raised and spec.is_file() and _version(root / "img_core/spec").split(".")[0] == _read(spec)[0].split(".")[0]:
        wrong.append("spec: plugins rely on the libraries, too: its first number is raised with theirs")
    return wrong


def record(root: Path) -> None:
    """Write down what there is at *root* now."""
    for library in libraries(root):
        lines = [_version(library), *(f"{name}: {signature}" for name, signature in sorted(surface(library).items()))]
        _file(root, library).parent.mkdir(parents=True, exist_ok=True)
        _file(root, library).write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: list[str], root: Path = ROOT) -> str | None:
    """Run the command; return what is wrong."""
    parser = ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="change nothing, which is the default")
    what.add_argument("--record", action="store_true", help="overwrite what the last release had")
    if parser.parse_args(arguments).record:
        record(root)
        return None
    return "\n".join(check(root)) or None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
