"""Write a small root file system made of this machine's own programs, as a tar archive on standard output.

It holds a shell, some everyday programs and the shared libraries they need: enough for RUN steps, without any registry.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile

PROGRAMS = """
    sh cat chmod chown cp echo env grep id ls mkdir mv rm sed sleep sort tail touch true tr uname wc
""".split()  # noqa: SIM905  # a list to be read
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndemo:x:1000:1000:demo:/home/demo:/bin/sh\n",
    "etc/group": "root:x:0:\ndemo:x:1000:\n",
}
DIRECTORIES = {
    "usr": 0o755,
    "usr/bin": 0o755,
    "etc": 0o755,
    "root": 0o700,
    "tmp": 0o1777,
    "home": 0o755,
    "dev": 0o755,
    "proc": 0o555,
    "sys": 0o555,
}


def libraries(program: str) -> set[str]:
    """Return the shared libraries and the loader of *program*; none for a static one."""
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"(/\S+) \(0x", listing))


def place_of(path: str) -> str:
    """Return where *path* of this machine is in the image: below ``usr`` if its first directory is a link into that (merged /usr)."""
    top, slash, rest = path.strip("/").partition("/")
    return f"usr/{top}{slash}{rest}" if os.path.islink(f"/{top}") else top + slash + rest


def add(archive: tarfile.TarFile, name: str, *, mode: int, data: bytes | None = None, link: str | None = None) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.mtime = mode, 0
    if link is not None:
        entry.type, entry.linkname = tarfile.SYMTYPE, link
    elif data is None:
        entry.type = tarfile.DIRTYPE
    else:
        entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data) if data is not None else None)


def directories(files: set[str]) -> set[str]:
    """Return the directories to make: the usual ones, and those above *files*."""
    found = set(DIRECTORIES)
    for path in files:
        parts = os.path.dirname(path).strip("/").split("/")
        found.update("/".join(parts[:end]) for end in range(1, len(parts) + 1))
    return found


def main() -> None:
    found = {name: path for name in PROGRAMS if (path := shutil.which(name))}
    needed = set().union(*(libraries(path) for path in found.values()))
    places = {path: place_of(path) for path in sorted(needed)}
    links = {"bin", *(path.split("/")[1] for path, place in places.items() if place != path.strip("/"))}
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        for name in sorted(directories(set(places.values()))):
            add(archive, name, mode=DIRECTORIES.get(name, 0o755))
        for name in sorted(links):
            add(archive, name, mode=0o777, link=f"usr/{name}")
        for path, place in places.items():
            with open(path, "rb") as file:
                add(archive, place, mode=0o755, data=file.read())
        for name, path in found.items():
            with open(path, "rb") as file:
                add(archive, f"usr/bin/{name}", mode=0o755, data=file.read())
        for name, text in FILES.items():
            add(archive, name, mode=0o644, data=text.encode())


if __name__ == "__main__":
    main()
