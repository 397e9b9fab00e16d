"""An image whose only directory is `HOME`, with an interpreter that needs no other: what a builder takes that exchanges all the rest.

`harness.engine` makes it as the root of a container, and mounts the programs of this machine below `HOME`.
"""

from __future__ import annotations

import os
import struct
import sys
import sysconfig
from pathlib import Path

__all__ = ["DIRECTORIES", "HOME", "OWNED", "command_in", "environment_in", "make", "place_of", "visible"]

HOME = Path("/.img")
#: of the user of the container, in it
DIRECTORIES = ("home", "in", "state", "tmp")
#: what a builder without root needs beside it: real directories of its own, in which it may exchange what is there
OWNED = tuple(
    "usr etc var home root opt srv mnt media run tmp boot app src data work workspace build code".split()  # noqa: SIM905
)
LINKS = {name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64", "lib32", "libx32")}

_SOURCE = Path(__file__).parents[2]
_PYTHON = HOME / "python"
_PT_INTERP = 3


def make(image: Path, owner: int, user: int, *, owned: bool) -> None:
    """Make the image's files: of *owner*, and where the builder writes of *user*."""
    _own(image / HOME.name, owner)
    for name in DIRECTORIES:
        _own(image / HOME.name / name, user)
    for name in ("usr", "source", "packages"):
        _own(image / HOME.name / name, owner)
    if owned:
        for name in OWNED:
            _own(image / name, user)
        for name, target in LINKS.items():
            (image / name).symlink_to(target)
    interpreter = Path(sys.executable).resolve()
    version = "python{}.{}".format(*sys.version_info)
    binary, loader = with_loader(interpreter.read_bytes(), bytes(HOME / "ld"))
    (image / HOME.name / "ld").symlink_to(_below_usr(Path(loader)))
    python = image / HOME.name / _PYTHON.name
    (python / "bin").mkdir(parents=True)
    (python / "lib" / version).mkdir(parents=True)
    (python / "lib" / version / "site-packages").symlink_to(HOME / "packages")
    (python / "bin" / version).write_bytes(binary)
    (python / "bin" / version).chmod(0o755)
    (python / "pyvenv.cfg").write_text(f"home = {_below_usr(interpreter).parent}\n")


def _own(directory: Path, owner: int) -> None:
    directory.mkdir()
    os.chown(directory, owner, owner)


def _below_usr(path: Path) -> Path:
    real = path.resolve()
    if not real.is_relative_to("/usr"):
        sys.exit(f"this host has `{path}` outside of /usr")
    return HOME / real.relative_to("/")


def with_loader(binary: bytes, loader: bytes) -> tuple[bytes, str]:
    """Return an ELF file of 64 bits that is started by *loader*, which must not have a longer name, and its loader until now."""
    table, size, count = *struct.unpack_from("=Q", binary, 32), *struct.unpack_from("=HH", binary, 54)
    for place in range(table, table + size * count, size):
        kind, _, offset, _, _, length = struct.unpack_from("=IIQQQQ", binary, place)
        if kind == _PT_INTERP:
            known = binary[offset : offset + length]
            assert len(loader) < length
            changed = binary[:offset] + loader.ljust(length, b"\0") + binary[offset + length :]
            return changed, known.rstrip(b"\0").decode()
    raise AssertionError("a static program has no loader")


def visible() -> dict[str, str]:
    """Return what of this machine is mounted in it: place -> source."""
    return {
        str(HOME / "usr"): "/usr",
        str(HOME / "source"): str(_SOURCE),
        str(HOME / "packages"): sysconfig.get_path("purelib"),
    }


def place_of(path: str) -> str:
    """Return where the directory *path* of this machine, which it may change, is mounted in it: what is elsewhere moves away."""
    return f"{HOME}/shared{path}"


def command_in(command: list[str]) -> list[str]:
    """Return what *command*, of this machine, is there: with our interpreter, or a shell."""
    program, *arguments = command
    if program == sys.executable:
        return [f"{_PYTHON}/bin/python{sys.version_info[0]}.{sys.version_info[1]}", *arguments]
    return [str(HOME / "usr/bin/busybox"), program, *arguments]


def environment_in(environment: dict[str, str]) -> dict[str, str]:
    """Return what *environment*, of this machine, is there."""
    libraries = HOME / "usr/lib" / sysconfig.get_config_var("MULTIARCH")
    source = HOME / "source"
    return {
        **environment,
        "LD_LIBRARY_PATH": str(libraries),
        "PYTHONPATH": f"{source}:{source}/plugins:{source}/tests",
        "PYTHONSAFEPATH": "1",  # the working directory may be one that is exchanged
        "TMPDIR": str(HOME / "tmp"),
        "PATH": f"{HOME}/usr/bin:{HOME}/usr/sbin",
    }
