"""The compiled modules of commands in one file: to find and to open 250 files is a tenth of the start of a push.

The file lies in the user's cache directory and may be deleted at any time. What comes out of it is what Python would have read from its own
compiled files (`__pycache__`), so it is used only while those would be used: by the same interpreter with the same search path, while no
directory in which modules were found has changed, and for each module while stat(2) says of its source what it said then, with its
change time, which nobody can set. Whatever cannot be told for certain is left to Python. Modules have their source, specification and
reader of resources as otherwise; finders that come before Python's own still do.

This is the half that each command imports; `img_core.cli._bundling` makes the file.
"""

from __future__ import annotations

import marshal
import os
import sys
import time
import zlib
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType

from img_core.cli._compiled import Compiled
from img_core.files.places import cache_directory, open_ours

TYPE_CHECKING = False  # see `img_core.linux.stdout`
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from img_core.cli._compiled import Known

    #: What stat(2) says of a file: device, inode, mode, size, times of modification and change in nanoseconds; None if there is none.
    Status = tuple[int, int, int, int, int, int] | None
    #: Of a module: source, compiled file of Python, directory of its package ("" at the top), whether it is a package itself,
    #: status of the source, place and size of the code.
    Row = tuple[str, str, str, bool, Status, int, int]
    #: What the interpreter is and looks through, status of each directory and of `COMPILERS`, modules by name, what was compiled from text.
    Index = tuple[str, dict[str, Status], dict[str, Row], Known]

__all__ = ["HEAD", "SIZES", "SWITCH", "Bundle", "BundledLoader", "identity", "place", "status", "use"]

SWITCH = "IMG_NO_BUNDLE"  #: the variable that leaves everything to Python
#: Of the file. Then the code of one module after the other, and an index.
HEAD = b"img modules 2\n"
SIZES = 8  #: bytes of each of three numbers after `HEAD`: the size of all code, that of the index, and its CRC-32
_FEW = 8  #: modules that are not worth writing the file again


def use() -> Compiled | None:
    """Take modules from the user's bundle from now on, and make or amend it when the process ends; return what it has of texts."""
    if os.environ.get(SWITCH) or PathFinder not in sys.meta_path or len(sys.path_hooks) != 2:
        return None  # somebody finds modules in a way of his own
    bundle = Bundle(place())
    bundle.load()
    bundle.compiled.use()
    sys.meta_path.insert(sys.meta_path.index(PathFinder), bundle)
    import atexit

    atexit.register(bundle.amend)
    return bundle.compiled


def place() -> str:
    """Return the path of the bundle: one for each interpreter and search path, virtual environments must not take turns in making it."""
    name = f"{zlib.crc32(identity().encode('utf-8', 'surrogateescape')):08x}.bin"
    return os.path.join(cache_directory(os.environ), "modules", name)


def identity() -> str:
    """Return what decides which files modules come from, and in which form they are compiled."""
    return f"{sys.executable}\0{sys.prefix}\0{sys.version}\0{sys.flags.optimize}\0{sys.pycache_prefix}\0" + "\0".join(
        sys.path
    )


def status(path: str) -> Status:
    """Return what is at *path*, links followed."""
    try:
        found = os.stat(path or ".")  # as in `sys.path`
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Bundle:
    """The file at *path*, and a finder of modules (`sys.meta_path`) that are in there."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.rows: dict[str, Row] = {}
        self.compiled = Compiled()
        self.began = time.time_ns()
        self._taken: set[str] = set()  # modules that came from here…
        self._before = frozenset(sys.modules)  # …and those that were there already
        self._search_path = list(sys.path)
        self._process = os.getpid()
        self._file = -1

    def load(self) -> None:
        """Open the file, if it can be believed and nothing changed since it was made."""
        try:
            self._file = open_ours(self.path)
            self._read_index()
        except (OSError, ValueError, EOFError, TypeError):
            pass  # there is none, or it is damaged

    def _read_index(self) -> None:
        found = os.fstat(self._file)
        head = os.pread(self._file, len(HEAD) + 3 * SIZES, 0)
        code_size, index_size, check = (
            int.from_bytes(head[begin : begin + SIZES], "little") for begin in range(len(HEAD), len(head), SIZES)
        )
        if not head.startswith(HEAD) or found.st_size != len(head) + code_size + index_size:
            return  # cut
        marshalled = os.pread(self._file, index_size, len(head) + code_size)
        if zlib.crc32(marshalled) != check:
            return
        index: Index = marshal.loads(marshalled)  # noqa: S302  # our own file
        made_for, directories, rows, known = index
        if made_for == identity() and all(status(path) == was for path, was in directories.items()):
            self.rows = rows
            self.compiled.expressions, self.compiled.functions = known

    def code(self, row: Row) -> bytes:
        """Return the code of the module of *row*, nothing if it cannot be read any more."""
        offset, size = row[-2:]
        try:
            return os.pread(self._file, size, offset)
        except OSError:  # another machine has replaced the file, on NFS
            return b""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load the module *name*, None if it is not here or not as it was."""
        row = self.rows.get(name)
        if row is None or sys.path != self._search_path:
            return None
        source, compiled, parent, is_package, known, _offset, _size = row
        if (list(path) if path is not None else []) != ([parent] if parent else []) or status(source) != known:
            return None
        loader = BundledLoader(name, source, lambda: self.code(row))
        spec = ModuleSpec(name, loader, origin=source, is_package=is_package)
        spec.has_location, spec.cached = True, compiled
        if is_package:
            spec.submodule_search_locations = [os.path.dirname(source)]
        self._taken.add(name)
        return spec

    def amend(self) -> None:
        """Write the file, if this process imported modules that it lacks."""
        if os.getpid() != self._process or sys.dont_write_bytecode:
            return
        known = self._before | self._taken
        names = [name for name, module in list(sys.modules.items()) if name not in known and _is_plain(module)]
        if len(names) > _FEW:
            from img_core.cli._bundling import write

            write(self, names)


def _is_plain(module: ModuleType) -> bool:
    """Tell whether Python has loaded *module* from a source in the usual way."""
    return type(getattr(getattr(module, "__spec__", None), "loader", None)) is SourceFileLoader


class BundledLoader(SourceFileLoader):
    """Python's own, with the code at hand for once."""

    def __init__(self, name: str, path: str, code: Callable[[], bytes]) -> None:
        super().__init__(name, path)
        self._code: Callable[[], bytes] | None = code

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the code of the module: of the bundle when it is imported, later that of its files."""
        code, self._code = self._code, None
        try:
            found = marshal.loads(code()) if code else None  # noqa: S302  # as above
        except (ValueError, EOFError, TypeError):  # damaged, or gone
            found = None
        return found if isinstance(found, CodeType) else super().get_code(fullname)
