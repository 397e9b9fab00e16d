"""Writing bundles: blobs, ``index.json`` and ``oci-layout``, and for Docker ``manifest.json`` beside them.

Members are mode 0444, owned by root, dated 1970 and sorted, as ``docker save`` and ``img save`` have them: equal images give
equal bytes. Every blob is verified while it is written.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from img_core.archives.tar.member import DIRECTORY
from img_core.archives.tar.writer import TarWriter
from img_core.files import fs
from img_core.files.output import destination_errors
from img_core.images import oci, platforms
from img_core.images.digests import blob_path
from img_core.images.reference import Reference
from img_core.spec.errors import ImgError, NotFoundError
from img_core.spec.values import Descriptor, Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from img_core.spec.exporter import ImageStore, NamedImage, Writable
    from img_core.spec.values import Platform

__all__ = ["write_directory", "write_tar"]

_NAME = "io.containerd.image.name"
_REF_NAME = "org.opencontainers.image.ref.name"
_CREATED = "org.opencontainers.image.created"
_LAYOUT = oci.canonical_json({"imageLayoutVersion": "1.0.0"})
_FILE_MODE = 0o444


@dataclass(slots=True)
class _Plan:
    """What goes into a bundle."""

    blobs: dict[Digest, Descriptor] = field(default_factory=dict)
    entries: list[Descriptor] = field(default_factory=list)  #: of index.json
    saved: list[dict[str, Any]] = field(default_factory=list)  #: of manifest.json; Any: JSON

    @property
    def size(self) -> int:
        return sum(blob.size for blob in self.blobs.values())

    @property
    def directories(self) -> list[str]:
        """The directories of the blobs, each after the one that it is in."""
        return ["blobs", *sorted({os.path.dirname(blob_path(digest)) for digest in self.blobs})]


def write_tar(
    output: Writable,
    images: Sequence[NamedImage],
    store: ImageStore,
    *,
    docker: bool,
    platform: Platform | None = None,
    tick: Callable[[int], None] = lambda _bytes: None,
) -> None:
    """Write *images* as one tar archive.

    *docker* adds ``manifest.json``, which ``docker load`` of any age reads; of an image for several platforms it names the
    one for *platform* (None: this machine). Raises NotFoundError if the store lacks a part of an image, IntegrityError for
    a damaged blob; the output is incomplete then.
    """
    plan = _plan(images, store, docker=docker, platform=platform)
    writer = TarWriter(output.write)
    for directory in plan.directories:
        writer.add(os.fsencode(directory), kind=DIRECTORY, mode=0o755)
    for blob in sorted(plan.blobs.values(), key=lambda blob: blob.digest):
        chunks = _ticking(_content(store, blob), tick, writer)
        writer.add(os.fsencode(blob_path(blob.digest)), mode=_FILE_MODE, size=blob.size, data=chunks)
    for name, content in _documents(plan, docker=docker):
        writer.add(os.fsencode(name), mode=_FILE_MODE, data=content)
    writer.finish()


def write_directory(
    directory: str,
    images: Sequence[NamedImage],
    store: ImageStore,
    *,
    docker: bool,
    platform: Platform | None = None,
    tick: Callable[[int], None] = lambda _bytes: None,
) -> None:
    """Add *images* to the image layout in *directory*, made if missing; see `write_tar`.

    Images with other names that its ``index.json`` lists stay listed. The new ``index.json`` appears last and at once: until then the old
    one counts. A failure leaves the old layout, or no directory.
    """
    plan = _plan(images, store, docker=docker, platform=platform, nameless="latest")
    made: list[str] = []
    try:
        for path in (directory, *(os.path.join(directory, name) for name in plan.directories)):
            _make_directory(path, made)
        plan.entries = [*_others(directory, plan, store), *plan.entries]
        done = 0
        for blob in plan.blobs.values():
            _write_file(os.path.join(directory, blob_path(blob.digest)), _content(store, blob), made)
            done += blob.size
            tick(done)
        for name, content in reversed(_documents(plan, docker=docker)):  # index.json last
            _write_file(os.path.join(directory, name), [content], made)
    except BaseException:
        _undo(made)
        raise


# ---------------------------------------------------------------------------------------------------------- planning


def _plan(
    images: Sequence[NamedImage], store: ImageStore, *, docker: bool, platform: Platform | None, nameless: str = ""
) -> _Plan:
    """Return what is to be written; images without a name get the tag *nameless*, if it is given."""
    plan = _Plan()
    for image in images:
        manifests = _collect(image.descriptor, store, plan.blobs)
        plan.entries += _entries(image, nameless)
        if docker and (chosen := _choose(manifests, platform or platforms.host_platform())):
            plan.saved.append(_saved(image, chosen))
    return plan


def _collect(
    descriptor: Descriptor, store: ImageStore, blobs: dict[Digest, Descriptor]
) -> list[tuple[Platform | None, oci.Manifest]]:
    """Add *descriptor* and all that it references to *blobs*; return the manifests found, with their platforms."""
    content = store.read(descriptor.digest)
    parsed = oci.parse_manifest_or_index(content, name=descriptor.digest, media_type=descriptor.media_type)
    if isinstance(parsed, oci.Index):
        found = _collect_children(parsed, store, blobs)
        if not found:
            raise NotFoundError(f"no image that {descriptor.digest} lists is complete")
    else:
        for blob in (*parsed.layers, parsed.config):
            store.open(blob.digest).close()
        blobs.update((blob.digest, blob) for blob in (*parsed.layers, parsed.config))
        found = [(descriptor.platform, parsed)]
    blobs[descriptor.digest] = descriptor
    return found


def _collect_children(
    index: oci.Index, store: ImageStore, blobs: dict[Digest, Descriptor]
) -> list[tuple[Platform | None, oci.Manifest]]:
    """Collect what is here: of an image for many platforms often only one was pulled."""
    found: list[tuple[Platform | None, oci.Manifest]] = []
    for child in index.manifests:
        part: dict[Digest, Descriptor] = {}
        try:
            found += _collect(child, store, part)
        except NotFoundError:
            continue
        blobs.update(part)
    return found


def _choose(manifests: Sequence[tuple[Platform | None, oci.Manifest]], platform: Platform) -> oci.Manifest | None:
    """Return the manifest for *platform*, or the only one."""
    images = [(offered, manifest) for offered, manifest in manifests if manifest.is_image]
    if len(images) == 1:
        return images[0][1]
    choice = platforms.choose(platform, [offered for offered, _ in images])
    return None if choice is None else images[choice][1]


def _entries(image: NamedImage, nameless: str) -> Iterator[Descriptor]:
    """Give the entries of index.json for *image*, one per name; see `_plan`."""
    created = {_CREATED: image.created} if image.created else {}
    for name in image.names:
        reference = Reference.parse(name)
        annotations = {_NAME: name, _REF_NAME: reference.tag or reference.digest or "latest", **created}
        yield replace(image.descriptor, annotations={**image.descriptor.annotations, **annotations})
    if not image.names:
        annotations = {**({_REF_NAME: nameless} if nameless else {}), **created}
        yield replace(image.descriptor, annotations={**image.descriptor.annotations, **annotations})


def _saved(image: NamedImage, manifest: oci.Manifest) -> dict[str, Any]:  # Any: JSON
    """Return the entry of manifest.json; its names are as short as people write them."""
    references = [Reference.parse(name) for name in image.names]
    tags = [reference.familiar() for reference in references if reference.tag and not reference.digest]
    return {
        "Config": blob_path(manifest.config.digest),
        "RepoTags": tags or None,
        "Layers": [blob_path(layer.digest) for layer in manifest.layers],
    }


def _documents(plan: _Plan, *, docker: bool) -> list[tuple[str, bytes]]:
    """Return the files beside the blobs, sorted by name."""
    index = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_INDEX,
        "manifests": [oci.descriptor_document(entry) for entry in plan.entries],
    }
    documents = [("index.json", oci.canonical_json(index))]
    if docker and plan.saved:
        documents.append(("manifest.json", oci.canonical_json(plan.saved)))
    return [*documents, ("oci-layout", _LAYOUT)]


# ----------------------------------------------------------------------------------------------------------- content


def _content(store: ImageStore, blob: Descriptor) -> Iterator[bytes]:
    """Give the verified bytes of *blob*, which must be as many as its descriptor says."""
    left = blob.size
    for chunk in store.chunks(blob):
        left -= len(chunk)
        yield chunk
    if left:
        raise ImgError(f"blob {blob.digest} does not have the {blob.size} bytes that its descriptor says")


def _ticking(chunks: Iterable[bytes], tick: Callable[[int], None], writer: TarWriter) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        tick(writer.size)


# ------------------------------------------------------------------------------------------------------- directories


def _make_directory(path: str, made: list[str]) -> None:
    with destination_errors(path):
        try:
            fs.mkdir(path)
        except FileExistsError:
            return
    made.append(path)


def _others(directory: str, plan: _Plan, store: ImageStore) -> list[Descriptor]:
    """Return the entries of the existing index.json that keep their place."""
    from img_lib_export.bundle._contents import DirectoryContents  # loads tar and codecs; most write one file

    with destination_errors(directory):
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        content = DirectoryContents(root, store).document("index.json")
    finally:
        os.close(root)
    if content is None:
        return []
    taken = {_entry_name(entry) for entry in plan.entries}
    old = oci.parse_index(content, name=f"`{fs.show(os.path.join(directory, 'index.json'))}`")
    return [entry for entry in old.manifests if _entry_name(entry) not in taken]


def _entry_name(entry: Descriptor) -> str:
    annotations: Mapping[str, str] = entry.annotations
    return annotations.get(_NAME) or annotations.get(_REF_NAME) or entry.digest


def _write_file(path: str, chunks: Iterable[bytes], made: list[str]) -> None:
    """Write what *chunks* gives; an error of reading that is none of *path*."""
    existed = os.path.lexists(path)
    with destination_errors(path):
        opened = fs.AtomicFile(os.path.dirname(path), mode=0o644, prefix=".img-")
    with opened as file:
        for chunk in chunks:
            with destination_errors(path):
                file.write(chunk)
        with destination_errors(path):
            file.commit(path, sync=os.path.basename(path) == "index.json")
    if not existed:
        made.append(path)


def _undo(made: list[str]) -> None:
    """Remove what a failed export made, newest first."""
    for path in reversed(made):
        try:
            os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
        except OSError:  # somebody else put something there meanwhile: theirs to keep
            continue
