"""The recipes for Alpine, Arch and Gentoo: their functions run with what a distribution's tools do replaced by a few lines.

Wheels are made before; a recipe's own commands put them into packages. What is in each is compared with what is in its wheel.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging_support import ROOT, build_wheel

DROP_IN = "usr/lib/img/plugins.d/10-embedded-runc.toml"
RECIPES = ROOT / "contrib/packaging"

#: Stands for `python3 -m build`, `gpep517` and `python3 -m installer`: takes the wheel that was made before, or unpacks one.
PYTHON = """\
import os, pathlib, shutil, sys, zipfile
words = sys.argv[1:]
after = lambda *names: next(
    word.partition("=")[2] if "=" in word else words[number + 1]
    for number, word in enumerate(words) for name in names if word.split("=")[0] == name
)
if "installer" in words:
    target, wheel = pathlib.Path(after("-d", "--destdir")), words[-1]
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            head, _, rest = name.partition(".data/data/")
            place = target / "usr" / rest if rest else target / "usr/lib/python3/site-packages" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(archive.read(name))
            if name.endswith("/entry_points.txt"):
                for line in archive.read(name).decode().partition("[console_scripts]")[2].partition("\\n[")[0].split("\\n"):
                    if "=" in line:
                        (target / "usr/bin").mkdir(parents=True, exist_ok=True)
                        (target / "usr/bin" / line.split("=")[0].strip()).touch(0o755)
else:
    source = next((word for word in words[1:] if word.startswith("plugins/")), os.getcwd())
    kind = next((kind for kind in ("fuse", "embedded") if kind in source), "core")
    if kind == "embedded" and not all(os.environ.get(f"IMG_RUNC_{it}") for it in ("BINARY", "LICENSE", "SHA256")):
        sys.exit("the wheel with runc needs to know its binary, licence and digest")
    target = pathlib.Path(after("--outdir", "--wheel-dir"))
    target.mkdir(parents=True, exist_ok=True)
    for wheel in (pathlib.Path(os.environ["WHEELS"]) / kind).glob("*.whl"):
        shutil.copy(wheel, target)
"""
TOOLS = """\
set -euo pipefail
python() { "$REAL" "$FAKE" "$@"; }
python3() { python "$@"; }
gpep517() { python "$@"; }
sha256sum() { echo "0123 $1"; }
"""
ARCH = """\
. ./PKGBUILD
(build)
for one in "${pkgname[@]}"; do
    (pkgname=$one pkgdir="$OUT/$one"; mkdir -p "$pkgdir"; "package_$one"; echo "${depends[*]}" > "$OUT/$one.depends"
     echo "${license[*]}" > "$OUT/$one.license")
done
"""
ALPINE = """\
. ./APKBUILD
pkgdir="$OUT/img-builder"
(cd "$builddir"; build; package)
echo "$depends" > "$OUT/img-builder.depends"
echo "$subpackages" > "$OUT/subpackages"
echo "$arch $(for one in $subpackages; do [[ $one != *:*:* ]] || echo "${one#img-builder-}" | cut -d: -f1,3; done)" > "$OUT/arch"
for one in fuse runc-embedded; do
    (subpkgdir="$OUT/img-builder-$one"; mkdir -p "$subpkgdir"; "_${one#runc-}"; echo "$depends" > "$OUT/img-builder-$one.depends"
     echo "$license" > "$OUT/img-builder-$one.license")
done
"""
GENTOO = """\
die() { exit 1; }
inherit() { :; }
use() { [[ " $USE " == *" $1 "* ]]; }
usev() { if use "$1"; then echo "${2:-$1}"; fi; }
distutils_pep517_install() { python build-wheel --wheel-dir "$BUILD_DIR/$$$RANDOM"; for it in "$BUILD_DIR"/"$$"*/*.whl; do
    python -m installer -d "$1" "$it"; done; }
distutils-r1_python_compile() { distutils_pep517_install "$BUILD_DIR/install"; }
distutils-r1_python_install_all() { mkdir -p "$D"; cp -r "$BUILD_DIR"/install/. "$D"; }
insinto() { into=$1; }
doins() { mkdir -p "$D$into"; cp "$1" "$D$into"; }
PYTHON_USEDEP="" BROOT=/nowhere DISTDIR=/nowhere SRC_URI=""
. ./recipe.ebuild
for USE in "" "fuse" "embedded-runc" "fuse embedded-runc"; do
    BUILD_DIR="$OUT/build/${USE// /-}" D="$OUT/img-builder+${USE// /+}"
    (cd img_builder-0.1.0; python_compile; python_install_all)
done
echo "$RDEPEND" > "$OUT/img-builder.depends"
echo "$LICENSE" > "$OUT/img-builder-runc-embedded.license"
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> dict[str, Path]:
    """The wheels of the core, of FUSE and of a runc inside, each in a directory of its name."""
    top = tmp_path_factory.mktemp("wheels")
    for name in ("core", "fuse", "embedded"):
        (top / name).mkdir()
    (top / "core" / wheel.name).symlink_to(wheel)
    runc = Path("/bin/busybox")  # a program, as good as any
    made = {"core": top / "core" / wheel.name}
    made["fuse"] = build_wheel(ROOT / "plugins/img-snapshotter-fuse", top / "fuse")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMG_RUNC_BINARY", str(runc))
        patch.setenv("IMG_RUNC_LICENSE", str(ROOT / "LICENSE"))
        patch.setenv("IMG_RUNC_SHA256", hashlib.sha256(runc.read_bytes()).hexdigest())
        made["embedded"] = build_wheel(ROOT / "plugins/img-runc-embedded", top / "embedded")
    return made


def run(recipe: Path, called: str, script: str, wheels: dict[str, Path], top: Path) -> Path:
    """Run *script* where the source of a release lies beside the recipe; return the directory of the packages."""
    source = top / "img_builder-0.1.0"
    source.mkdir()
    for path in ROOT.iterdir():
        if path.name in ("contrib", "plugins", "LICENSE", "pyproject.toml", "img_core"):
            (source / path.name).symlink_to(path)
    (top / called).write_text(recipe.read_text())
    (top / "fake.py").write_text(PYTHON)
    out = top / "out"
    out.mkdir()
    done = subprocess.run(
        ["bash", "-c", TOOLS + script], cwd=top, capture_output=True, text=True, check=False,
        env={
            "PATH": os.environ["PATH"], "OUT": str(out), "REAL": sys.executable, "FAKE": str(top / "fake.py"),
            "WHEELS": str(wheels["core"].parents[1]), "srcdir": str(top),
        },
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return out


def inside(package: Path) -> set[str]:
    return {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}


def wanted(wheel: Path) -> set[str]:
    """Return where the files of a wheel belong (the binary distribution format's ``.data`` directory, and scripts)."""
    found = set()
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            _, data, rest = name.partition(".data/data/")
            found.add(f"usr/{rest}" if data else f"usr/lib/python3/site-packages/{name}")
    return found


def needed(wheel: Path) -> list[str]:
    """Return the names of the distributions that a wheel needs everywhere, but ours: what has a marker makes something faster."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0].lower() for line in lines if ";" not in line]
    return [name for name in names if name != "img-builder"]


def check(package: Path, files: set[str], *, of: str = "") -> None:
    found = inside(package)
    assert found == files, (sorted(found - files)[:5], sorted(files - found)[:5], of)


def check_core(package: Path, wheel: Path, *more: str) -> None:
    check(package, wanted(wheel) | {"usr/bin/img", DROP_IN, *more})
    assert tomllib.loads((package / DROP_IN).read_text())["disabled"] == ["executor:runc-embedded"]
    shared = {"man/man1/img.1", "bash-completion/completions/img", "zsh/site-functions/_img"}
    assert {f"usr/share/{name}" for name in shared} <= inside(package)
    assert any(name.startswith("usr/share/fish/vendor_completions.d/") for name in inside(package))


def check_needs(directory: Path, prefix: str, wheels: dict[str, Path]) -> None:
    """Insist that a package names what its wheel needs, as the distribution calls it."""
    for name, package in (("core", "img-builder"), ("fuse", "img-builder-fuse")):
        given = re.split(r"[\s\[]+", (directory / f"{package}.depends").read_text())
        words = {re.sub(r"^[<>=]+|-\d[\d.]*$", "", word) for word in given}
        assert [each for each in needed(wheels[name]) if f"{prefix}{each}" not in words] == []


def check_licence(directory: Path) -> None:
    """Insist that the package with runc inside names the licence of that, too."""
    assert {"MIT", "Apache-2.0"} <= set((directory / "img-builder-runc-embedded.license").read_text().split())


def test_arch_packages_what_is_in_the_wheels(wheels: dict[str, Path], tmp_path: Path) -> None:
    out = run(RECIPES / "arch/PKGBUILD", "PKGBUILD", ARCH, wheels, tmp_path)
    check_core(out / "img-builder", wheels["core"], "usr/share/licenses/img-builder/LICENSE")
    check(out / "img-builder-fuse", wanted(wheels["fuse"]))
    check(out / "img-builder-runc-embedded", wanted(wheels["embedded"]))
    check_needs(out, "python-", wheels)
    check_licence(out)


def test_alpine_packages_what_is_in_the_wheels(wheels: dict[str, Path], tmp_path: Path) -> None:
    out = run(RECIPES / "alpine/APKBUILD", "APKBUILD", ALPINE, wheels, tmp_path)
    check_core(out / "img-builder", wheels["core"])
    check(out / "img-builder-fuse", wanted(wheels["fuse"]))
    check(out / "img-builder-runc-embedded", wanted(wheels["embedded"]))
    check_needs(out, "py3-", wheels)
    check_licence(out)
    subpackages = (out / "subpackages").read_text()
    for suffix in ("doc", "bash-completion", "zsh-completion", "fish-completion"):
        assert f"img-builder-{suffix}" in subpackages, "abuild moves these files into a package of their own"
    arch, *of_its_own = (out / "arch").read_text().split()
    assert (arch, of_its_own) == ("all", ["fuse:noarch"]), "abuild gives a subpackage that names none that of the whole"


def test_gentoo_installs_what_is_in_the_wheels(wheels: dict[str, Path], tmp_path: Path) -> None:
    (recipe,) = (RECIPES / "gentoo").glob("*.ebuild")
    out = run(recipe, "recipe.ebuild", GENTOO, wheels, tmp_path)
    core, fuse, embedded = (wanted(wheels[name]) for name in ("core", "fuse", "embedded"))
    core |= {"usr/bin/img", DROP_IN}
    for use, files in (("", core), ("fuse", core | fuse), ("embedded-runc", core | embedded)):
        check(out / f"img-builder+{use}", files, of=use)
    check(out / "img-builder+fuse+embedded-runc", core | fuse | embedded)
    (out / "img-builder-fuse.depends").write_text((out / "img-builder.depends").read_text())
    check_needs(out, "dev-python/", wheels)
    check_licence(out)


def test_the_wheels_share_no_file(wheels: dict[str, Path]) -> None:
    files = [name for wheel in wheels.values() for name in wanted(wheel)]
    assert len(files) == len(set(files))
