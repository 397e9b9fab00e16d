"""Images that hold a fresh installation of Debian, or of what is built like it: one layer, made here.

A base is named by the digest of the suite's signed document, which names all packages: as long as the mirror says the same, the base is the
same and nothing is made again. What was made is kept below the state directory, in ``sources/debootstrap``, until ``img prune``.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.archives.codecs import compressor
from img_core.files import fs
from img_core.images import oci, platforms
from img_core.images.digests import Hasher
from img_core.net.web import Web
from img_core.spec import NotFoundError
from img_core.spec.source import ImageSource, PinnedImage, SourceContext
from img_core.spec.text import show
from img_core.spec.values import Descriptor, Digest

from img_source_debootstrap._address import SCHEME, Address, parse
from img_source_debootstrap._bootstrap import bootstrap
from img_source_debootstrap._release import Release, read_release

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.spec.graph import SourceOp
    from img_core.spec.values import Platform

__all__ = ["DebootstrapSource"]

_CHUNK = 1 << 20
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Raise it when the same packages give other bytes.
_FORM = 1


class DebootstrapSource(ImageSource):
    """``debootstrap://bookworm`` is an image with a fresh installation of that suite, by mmdebstrap from a mirror.

    Keys after ``?``: ``variant`` (``minbase``), ``mirror``, ``include`` and ``components`` (lists with commas), ``keyring``.
    """

    name: ClassVar[str] = "debootstrap"

    @classmethod
    def claims(cls, address: str) -> str | None:
        """Claim addresses of our scheme, and nothing else. Looks at the text only."""
        return address.removeprefix(SCHEME) if address.startswith(SCHEME) else None

    def __init__(self, context: SourceContext) -> None:
        super().__init__(context)
        self._web = Web(environment=context.host.environment)
        self._directory = os.path.join(context.host.state_directory, "sources", self.name)
        self._releases: dict[str, Release] = {}  # what mirrors said to this build
        self._locks: dict[str, threading.Lock] = {}  # by URL or key: nothing is asked or made twice
        self._guard = threading.Lock()  # of these locks

    def close(self) -> None:
        """End what is waited for."""
        self._web.close()

    def pin(self, op: SourceOp, platform: Platform | None) -> PinnedImage:
        """Ask the mirror what the suite is, and make the base unless it was made of the same before.

        Raises UsageError, NotFoundError, RegistryError, HostError, ImgError with what mmdebstrap says.
        """
        address, wanted = parse(op.reference), platform or platforms.host_platform()
        release = self._release(address)
        key = hashlib.sha256(json.dumps([_FORM, asdict(address), str(wanted), release.digest]).encode()).hexdigest()
        with self._alone(key):
            kept = os.path.join(self._directory, key)
            if not os.path.exists(os.path.join(kept, "manifest.json")):
                self._make(address, wanted, release, kept, f"{SCHEME}{op.reference}")
            return _read(kept, op.reference)

    def blob(self, pinned: PinnedImage, descriptor: Descriptor) -> Iterator[bytes]:
        """Give the bytes of the layer; the caller verifies them."""
        path = os.path.join(self._directory, pinned.manifest.annotations["key"], "layer.tar.gz")
        try:
            with open(path, "rb", buffering=0) as file:
                while data := file.read(_CHUNK):
                    yield data
        except FileNotFoundError:
            raise NotFoundError(
                f"the base `{SCHEME}{show(pinned.reference)}` was removed while it was in use"
            ) from None

    def _release(self, address: Address) -> Release:
        with self._alone(address.release):
            if address.release not in self._releases:
                if self.context.offline and not address.mirror.startswith("file:"):
                    raise NotFoundError(
                        f"with `--offline` the mirror is not asked what `{address.suite}` is: `{address.mirror}`",
                        hint="a mirror on this machine is `mirror=file:///DIRECTORY`",
                    )
                self._releases[address.release] = read_release(address.release, self._web)
            return self._releases[address.release]

    def _alone(self, name: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(name, threading.Lock())

    def _make(self, address: Address, platform: Platform, release: Release, kept: str, text: str) -> None:
        """Make the base in the run directory, which vanishes with us, and rename it to *kept*."""
        run = os.path.join(self.context.host.run_directory, f"{self.name}-{os.urandom(8).hex()}")
        fs.mkdir(run, 0o700)
        try:
            archive = os.path.join(run, "layer.tar")
            self.context.status(f"installing {text}", 0, 0)
            bootstrap(address, platform, release, self.context, archive)
            made = os.path.join(self._directory, f".new-{os.urandom(8).hex()}")
            os.makedirs(self._directory, exist_ok=True)
            fs.mkdir(made, 0o700)
            try:
                _write_image(archive, made, platform, release, text, self.context)
                fs.rename(made, kept)
            except BaseException as err:
                fs.remove_tree(made)
                faster = isinstance(err, OSError) and err.errno in (errno.EEXIST, errno.ENOTEMPTY)
                if not faster:  # than we: another process
                    raise
        finally:
            fs.remove_tree(run)


def _write_image(
    archive: str, directory: str, platform: Platform, release: Release, text: str, context: SourceContext
) -> None:
    """Write layer, config and manifest into *directory*."""
    packer, inner, outer, size = compressor("gzip"), Hasher(), Hasher(), 0
    with open(archive, "rb") as source, open(os.path.join(directory, "layer.tar.gz"), "xb") as target:
        while data := source.read(_CHUNK):
            context.check()
            inner.update(data)
            packed = packer.compress(data)
            outer.update(packed)
            size += target.write(packed)
        packed = packer.flush()
        outer.update(packed)
        size += target.write(packed)
    created = datetime.fromtimestamp(release.date, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    config = oci.canonical_json({
        "architecture": platform.architecture, "os": platform.os, **({"variant": platform.variant} if platform.variant else {}),
        "created": created, "config": {"Env": [f"PATH={_PATH}"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [inner.digest]}, "history": [{"created": created, "created_by": text}],
    })  # fmt: skip
    manifest = oci.canonical_json({
        "schemaVersion": 2, "mediaType": oci.OCI_MANIFEST,
        "config": {"mediaType": _CONFIG, "digest": oci.digest(config), "size": len(config)},
        "layers": [{"mediaType": _LAYER, "digest": outer.digest, "size": size}],
    })  # fmt: skip
    fs.replace_file(os.path.join(directory, "config.json"), config)
    fs.replace_file(os.path.join(directory, "manifest.json"), manifest)


def _read(kept: str, reference: str) -> PinnedImage:
    """Return the image in the directory *kept*."""
    documents: dict[Digest, bytes] = {}
    parsed: list[dict[str, Any]] = []  # Any: JSON that we wrote
    for name in ("manifest.json", "config.json"):
        with open(os.path.join(kept, name), "rb") as file:
            content = file.read()
        documents[oci.digest(content)] = content
        parsed.append(json.loads(content))
    digest, config = documents
    manifest = Descriptor(oci.OCI_MANIFEST, digest, len(documents[digest]), annotations={"key": os.path.basename(kept)})
    layers = tuple(Descriptor(item["mediaType"], item["digest"], item["size"]) for item in parsed[0]["layers"])
    return PinnedImage(
        reference, manifest, manifest, Descriptor(_CONFIG, config, len(documents[config])), layers, documents
    )
