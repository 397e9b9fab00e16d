"""Copy a Python and programs into one directory that needs nothing outside of itself: ``python3 relocate.py ROOT SITE PROGRAM...``.

The interpreter that runs this, its library, the packages in the directory SITE, and each PROGRAM (``NAME=PATH`` gives it another name) are
written below ``ROOT/.img``, with the shared libraries and the loader that they need, and changed so that they are found at ``/.img``.

See elf(5) for the structures, ld.so(8) for what DT_RPATH means: it counts for what those libraries load in turn, too.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import site
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

HOME = "/.img"
LOADER = f"{HOME}/ld"
LIBRARIES = f"{HOME}/lib"
LEFT_OUT = ("__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "config-*")

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 0, 5, 15, 29
_ENTRY = struct.Struct("<qQ")


class Program:
    """A 64-bit little-endian ELF program or shared library, in memory."""

    def __init__(self, path: Path) -> None:
        self.data = bytearray(path.read_bytes())
        if self.data[:6] != b"\x7fELF\x02\x01":
            raise SystemExit(f"{path} is no 64-bit program of this machine")
        (table,) = struct.unpack_from("<Q", self.data, 32)
        size, count = struct.unpack_from("<HH", self.data, 54)
        self.segments = {}
        for number in range(count):
            kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", self.data, table + number * size)
            self.segments.setdefault(kind, (offset, address, length))

    def write(self, path: Path) -> None:
        """Write it as an executable file."""
        path.write_bytes(self.data)
        path.chmod(0o755)

    def _table(self) -> list[tuple[int, int, int]]:
        """Return place, tag and value of each entry of the table for the loader."""
        start, _, length = self.segments[_PT_DYNAMIC]
        return [(place, *_ENTRY.unpack_from(self.data, place)) for place in range(start, start + length, _ENTRY.size)]

    def follow(self) -> None:
        """Let it look for libraries where the program looks that loads it, too."""
        for place, tag, value in self._table():
            if tag == _DT_RUNPATH:
                _ENTRY.pack_into(self.data, place, _DT_RPATH, value)

    @property
    def loader(self) -> str:
        """The path of the program that loads it."""
        offset, _, length = self.segments[_PT_INTERP]
        return bytes(self.data[offset : offset + length]).rstrip(b"\0").decode()

    def move(self) -> None:
        """Let it be loaded by `LOADER`, and find libraries in `LIBRARIES`: both names take the place of the old loader's."""
        offset, address, length = self.segments[_PT_INTERP]
        names = f"{LOADER}\0{LIBRARIES}\0".encode()
        if len(names) > length:
            raise SystemExit(f"the name of the loader {self.loader} is too short")
        self.data[offset : offset + length] = names.ljust(length, b"\0")
        self._set_search_path(address + len(LOADER) + 1)

    def _set_search_path(self, address: int) -> None:
        table = self._table()
        strings = next(value for _, tag, value in table if tag == _DT_STRTAB)
        own = [place for place, tag, _ in table if tag in (_DT_RPATH, _DT_RUNPATH)]
        free = [place for place, tag, _ in table if tag == _DT_NULL][:-1]  # the last one is its end
        if not own and not free:
            raise SystemExit("its table for the loader has no free entry")
        # Relative to the table of strings, which may come later in memory.
        _ENTRY.pack_into(self.data, (own or free)[0], _DT_RPATH, (address - strings) % (1 << 64))


def needed(loader: str, path: Path) -> list[Path]:
    """Return the shared libraries that *path* needs, itself or for them."""
    listed = subprocess.run([loader, "--list", path], capture_output=True, text=True, check=True).stdout
    return [Path(found) for found in re.findall(r"=> (/\S+) \(", listed)]


def copy_library(root: Path, path: Path) -> None:
    """Copy a shared library under the name that programs know."""
    target = root / LIBRARIES.lstrip("/") / path.name
    if not target.exists():
        library = Program(path)
        library.follow()
        library.write(target)


def copy_program(root: Path, source: Path, name: str) -> None:
    """Copy a program with its libraries and its loader."""
    program = Program(source)
    if _PT_INTERP not in program.segments:
        raise SystemExit(f"{source} has no loader: a static program can be copied as it is")
    loader = program.loader
    for library in needed(loader, source):
        copy_library(root, library)
    target = root / LOADER.lstrip("/")
    shutil.copyfile(loader, target)
    target.chmod(0o755)
    program.move()
    program.write(root / HOME.lstrip("/") / "bin" / name)


def copy_python(root: Path, installed: Path) -> Path:
    """Copy this interpreter with its library and the packages that are *installed*; return where it looks for packages."""
    binary = Path(os.path.realpath(sys.executable))
    copy_program(root, binary, "python3")
    version = "python{}.{}".format(*sys.version_info)
    modules = root / HOME.lstrip("/") / "lib" / version
    shutil.copytree(
        sysconfig.get_path("stdlib"),
        modules,
        ignore=shutil.ignore_patterns(*LEFT_OUT, "dist-packages", "site-packages"),
    )
    packages = root / site.getsitepackages([HOME])[0].lstrip("/")
    shutil.copytree(installed, packages, ignore=shutil.ignore_patterns("__pycache__", "bin"))
    loader = Program(binary).loader
    for extension in (*modules.rglob("*.so"), *packages.rglob("*.so")):
        for library in needed(loader, extension):
            copy_library(root, library)
        program = Program(extension)
        program.follow()
        program.write(extension)
    return packages


def main() -> None:
    """Do it."""
    root, installed, programs = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    home = root / HOME.lstrip("/")
    for name in ("bin", "lib", "home", "work"):
        (home / name).mkdir(parents=True, exist_ok=True)
    packages = copy_python(root, installed)
    for program in programs:
        name, _, path = program.rpartition("=")
        found = shutil.which(path) or sys.exit(f"there is no program {path}")
        copy_program(root, Path(os.path.realpath(found)), name or os.path.basename(path))
    start = home / "bin/img"
    start.write_text(f"#!{HOME}/bin/python3 -I\nimport sys\nfrom img_core.cli import main\nsys.exit(main())\n")
    start.chmod(0o755)
    for directory in (home / "lib", packages):
        compileall.compile_dir(
            directory, quiet=2, stripdir=str(root), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )


if __name__ == "__main__":
    main()
