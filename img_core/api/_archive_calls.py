"""Images as archives, and their files as directories."""

from __future__ import annotations

import os
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, BinaryIO

from img_core.api._workplace import Workplace, apart, words
from img_core.config import DEFAULT_ARCHIVE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from img_core.api._given import StrPath, Words
    from img_core.api._values import LoadResult, Unpacked
    from img_core.api._workplace import Listener
    from img_core.images.details import StoredImage
    from img_core.linux.cancellation import CancelHandle
    from img_core.spec.exporter import Exporter
    from img_core.spec.importer import LoadedImage
    from img_core.store import Store

__all__ = ["Archives"]


class Archives(Workplace):
    """The calls of a client that read and write files of the user."""

    @apart
    def save(
        self,
        names: Words,
        dest: StrPath | None,
        *,
        format: str = DEFAULT_ARCHIVE,  # noqa: A002  # what everybody calls it
        on_event: Listener | None = None,
        cancel: CancelHandle | None = None,
    ) -> None:
        """Write images as one archive to the file *dest*, complete or not at all. Layers that are only in registries are fetched first.

        *format* names an exporter that writes such archives. None as *dest* means standard output, for a client that works in this
        process. Raises NotFoundError, UsageError, RegistryError.
        """
        from img_core.api._images import get_image, save
        from img_core.api._transfers import complete, counting

        names = words(names)
        exporter = self.archive_exporter(format)
        with self._store() as store:
            images = [get_image(store, name) for name in names]
            left = [image for image in images if store.images.left(store.images.contents(image.descriptor))]
        if left:  # needs more of this process than reading does
            with self._session(namespace=False) as session:
                for image in left:
                    complete(session, image.name, image.descriptor, on_event=on_event)
        with self._store() as store:
            total = sum(store.images.content_size(image) or 0 for image in images) if on_event else 0
            with counting(f"saving {', '.join(names)}", total, on_event) as tick:
                save(store, names, os.fspath(dest) if dest is not None else None, exporter=exporter, tick=tick)

    def archive_exporter(self, name: str) -> Exporter:
        """Return the exporter *name*, which writes archives of stored images. Raises UsageError for another one, and PluginError."""
        from img_core.plugins import Choice, UnknownPlugin
        from img_core.spec.errors import UsageError
        from img_core.spec.host import Host

        plugins = self.plugins
        try:
            if plugins.driver("exporter", name).saves:
                host = Host("none", self.config.state_directory, "", environment=self.config.environment)
                made: Exporter = plugins.make("exporter", Choice(name, {}), host)
                return made
        except UnknownPlugin:
            pass
        known = ", ".join(f"`{each}`" for each in plugins.names("exporter") if plugins.driver("exporter", each).saves)
        raise UsageError(f'"{name}" is not a valid format', hint=f"known: {known}")

    @apart
    def load(
        self,
        source: StrPath | BinaryIO,
        *,
        name: str = "",
        on_event: Listener | None = None,
        cancel: CancelHandle | None = None,
    ) -> tuple[LoadResult, ...]:
        """Take all images of an archive (docker's or OCI, perhaps compressed) or of a directory with an image layout.

        A single image without a name gets *name*; others are kept under their ids. *source* is a path; a client that works in this process
        takes an open file, too. Raises ArchiveError, IntegrityError, UsageError.
        """
        from img_core.api._images import load
        from img_core.api._transfers import counting
        from img_core.archives.codecs import Watched
        from img_core.images.names import new_name

        given = new_name(name) if name else ""
        source = os.fspath(source) if isinstance(source, os.PathLike) else source
        with ExitStack() as opened:
            shown = source if isinstance(source, str) else "standard input"
            stream = opened.enter_context(_archive(source)) if not _is_directory(source) else None
            store = opened.enter_context(self._store(writable=True))
            size = os.fstat(stream.fileno()).st_size if stream is not None else 0
            tick = opened.enter_context(counting(f"loading {shown}", size, on_event))
            found = load(store, source if stream is None else Watched(stream, tick), self.plugins)
            return _name_the_nameless(store, found, given)

    @apart
    def import_rootfs(
        self,
        source: StrPath | BinaryIO,
        name: str,
        *,
        config: Mapping[str, Any] | None = None,  # Any: JSON
        platform: str = "",
        cancel: CancelHandle | None = None,
    ) -> StoredImage:
        """Make an image of one layer from a root file system in a tar archive (plain or compressed), called *name*.

        *config* is the ``config`` part of its configuration (``Cmd``, ``Env``…). *source* as `load`. Raises ArchiveError, UsageError.
        """
        from img_core.api._images import parsed_platform, shown
        from img_core.archives.rootfs import store_rootfs
        from img_core.images.names import new_name
        from img_core.images.platforms import host_platform

        wanted, known = parsed_platform(platform) or host_platform(), new_name(name)
        with _archive(source) as stream, self._store(writable=True) as store:
            made = store_rootfs(stream, store, config=config or {}, platform=wanted)
            store.blobs.remember_layer(made.layer.digest, made.diff_id)
            store.tag(known, made.manifest)
            return shown(store, store.images.get(known))

    @apart
    def unpack(
        self,
        name: str,
        directory: StrPath,
        *,
        platform: str = "",
        force: bool = False,
        on_event: Listener | None = None,
        cancel: CancelHandle | None = None,
    ) -> Unpacked:
        """Write the root file system of an image into the new *directory*, all of it or nothing.

        Without real root all files belong to the caller. With *force* it replaces a directory that an earlier call made, or one that has
        nothing which the new one has not. Devices are left out. Raises NotFoundError, UsageError, ArchiveError, IntegrityError.
        """
        from img_core.api._images import get_image, parsed_platform
        from img_core.api._transfers import complete
        from img_core.api._values import Unpacked
        from img_core.archives.layers import unpack_layers
        from img_core.archives.tar import OwnerPolicy
        from img_core.files.appearing import appearing

        wanted = parsed_platform(platform)
        with self._session(namespace=True) as session:
            image = get_image(session.store, name)
            content = session.store.images.content(image.descriptor, wanted, name)
            if session.store.images.left([content]):
                complete(session, image.name, image.descriptor, platform=content.config.platform, on_event=on_event)
            owners = session.host.mapping in ("root", "container")
            policy = OwnerPolicy("set" if owners else "caller", devices=False)
            layers = zip(content.layers, content.diff_ids, strict=True)
            with appearing(os.fspath(directory), state=session.store.state, force=force) as root_fd:
                left_out, count = unpack_layers(layers, session.store.blobs.chunks, root_fd, policy)
            return Unpacked(left_out, count)


def _is_directory(source: StrPath | BinaryIO) -> bool:
    return isinstance(source, str | os.PathLike) and os.path.isdir(source)


def _archive(source: StrPath | BinaryIO) -> AbstractContextManager[BinaryIO]:
    """Open the file *source*, or give it as it is. Raises UsageError."""
    from img_core.files.output import open_input

    return open_input(source) if isinstance(source, str | os.PathLike) else nullcontext(source)


def _name_the_nameless(store: Store, found: Sequence[LoadedImage], name: str) -> tuple[LoadResult, ...]:
    """Give the one image without a name *name*; without that such images are kept under their ids, as docker does. Raises UsageError."""
    from img_core.api._values import LoadResult
    from img_core.spec.errors import UsageError

    nameless = [image for image in found if not image.names]
    if name and len(nameless) > 1:
        raise UsageError(f"the archive holds {len(nameless)} images without a name, but one name was given")
    results = [LoadResult(tuple(image.names), image.descriptor.digest) for image in found if image.names]
    for image in nameless:
        if name:
            store.tag(name, image.descriptor)
        else:
            store.keep(image.descriptor)
        results.append(LoadResult((name,) if name else (), image.descriptor.digest))
    return tuple(results)
