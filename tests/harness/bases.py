"""Base images made here: an OCI archive from a root file system, without any code of img."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from harness.prepared import LINKS, OWNED

__all__ = ["BUSYBOX_CONFIG", "below_media", "busybox_root", "merged_busybox", "write_oci_archive"]

BUSYBOX = Path("/bin/busybox")
BUSYBOX_CONFIG = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]}

_PASSWD = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/usr/sbin:/bin/false\nwww:x:33:34:web:/srv/www:/bin/sh\n"
_GROUP = "root:x:0:\ndaemon:x:1:\nwww:x:34:\nstaff:x:50:www\n"
_DIRECTORIES = {
    "bin": 0o755,
    "etc": 0o755,
    "root": 0o700,
    "tmp": 0o1777,
    "usr/bin": 0o755,
    "var/log": 0o2775,
    "srv/data": 0o755,
}
_MERGED = {name: mode for name, mode in _DIRECTORIES.items() if name != "bin"}
_MERGED |= dict.fromkeys(("usr/lib", "usr/lib64", "usr/sbin", "media"), 0o755)
_FILES = {
    "etc/passwd": _PASSWD,
    "etc/group": _GROUP,
    "srv/data/one": "1\n",
    "srv/data/two": "2\n",
    "etc/motd": "hello\n",
}


def busybox_root(*commands: str, merged: bool = False) -> bytes:
    """Return a small root file system as a tar: busybox with *commands* (none: all), users, a few files and odd modes.

    *merged*: ``/bin`` and the like are links into ``usr``, as newer distributions have them, and there is an empty directory ``/media``.
    """
    place = "usr/bin" if merged else "bin"
    listed = commands or subprocess.run([BUSYBOX, "--list"], capture_output=True, check=True, text=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, mode in (_MERGED if merged else _DIRECTORIES).items():
            archive.addfile(_member(name, kind=tarfile.DIRTYPE, mode=mode))
        for name, target in LINKS.items() if merged else ():
            archive.addfile(_member(name, kind=tarfile.SYMTYPE, mode=0o777, linkname=target))
        content = BUSYBOX.read_bytes()
        archive.addfile(_member(f"{place}/busybox", mode=0o755, size=len(content)), io.BytesIO(content))
        for command in sorted(set(listed) - {"busybox"}):
            archive.addfile(_member(f"{place}/{command}", kind=tarfile.SYMTYPE, mode=0o777, linkname="busybox"))
        for name, text in _FILES.items():
            archive.addfile(_member(name, size=len(text)), io.BytesIO(text.encode()))
        archive.addfile(_member("srv/data/hard", kind=tarfile.LNKTYPE, linkname="srv/data/one"))
    return buffer.getvalue()


def merged_busybox(path: Path) -> Path:
    """Write the `busybox_root` whose /usr is merged as an archive of the image ``busybox``."""
    return write_oci_archive(
        path, [busybox_root(merged=True)], name="docker.io/library/busybox:latest", config=BUSYBOX_CONFIG
    )


_KNOWN: Final = "|".join(("proc", "sys", "dev", *LINKS, *OWNED))
_TOP: Final = re.compile(rf"(?<![\w./*$~}}-])/(?!(?:{_KNOWN})\b)(?=[A-Za-z])")
_INTO_ROOT: Final = re.compile(r"(\b(?:COPY|ADD|cp) [^&;\n]*[^/&;\s]) /(?=\s|$)")
_SOURCES: Final = re.compile(r"(?m)^(\s*(?:COPY|ADD) (?!.*--from).* )(\S+)$")


def below_media(dockerfile: str) -> str:
    """Return *dockerfile* with names below `/media` instead of those that it makes in the root directory, but for those of `OWNED`."""
    lines = (_moved(line) for line in _INTO_ROOT.sub(r"\1 /media/", dockerfile).split("\n"))
    return "\n".join(lines)


def _moved(line: str) -> str:
    kept = _SOURCES.match(line)
    return kept[1] + _TOP.sub("/media/", kept[2]) if kept else _TOP.sub("/media/", line)


def _member(
    name: str, *, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, size: int = 0, linkname: str = ""
) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.size, member.linkname, member.mtime = kind, mode, size, linkname, 1_000_000_000
    return member


def write_oci_archive(
    path: Path, layers: list[bytes], *, name: str, config: Mapping[str, Any] | None = None, compressed: bool = True
) -> Path:
    """Write the uncompressed tar *layers* as an OCI archive of an image called *name*: *compressed* by gzip, or as they are."""
    blobs: dict[str, bytes] = {}

    def add(content: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {
            "mediaType": f"application/vnd.oci.image.{media_type}",
            "digest": f"sha256:{digest}",
            "size": len(content),
        }

    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": dict(config or {}),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]},
        "history": [{"created": "2020-01-01T00:00:00Z", "created_by": "test"} for _ in layers],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": add(json.dumps(document).encode(), "config.v1+json"),
        "layers": [
            add(gzip.compress(layer, 1, mtime=0), "layer.v1.tar+gzip") if compressed else add(layer, "layer.v1.tar")
            for layer in layers
        ],
    }
    entry = add(json.dumps(manifest).encode(), "manifest.v1+json")
    entry["annotations"] = {
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
        "io.containerd.image.name": name,
    }
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(),
    }
    files |= {f"blobs/sha256/{digest}": content for digest, content in blobs.items()}
    with tarfile.open(path, "w") as archive:
        for directory in ("blobs", "blobs/sha256"):  # skopeo as an ordinary user cannot make what it finds no entry for
            archive.addfile(_member(directory, kind=tarfile.DIRTYPE, mode=0o755))
        for file, content in files.items():
            archive.addfile(_member(file, size=len(content)), io.BytesIO(content))
    return path
