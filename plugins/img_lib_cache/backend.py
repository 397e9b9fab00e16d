"""A cache backend on a `Place`: one rolling document, and segments that let several writers work at once without locks.

Every writer first publishes its own records under a tag of its own (a segment) and then the union of everything under the rolling tag.
Two writers may overwrite each other's rolling document; but each looks afterwards which segments are there and begins again until all of
them are in it, so whoever is last has all. One that is killed in between leaves a segment, which the next writer takes in.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.images import oci
from img_core.linux.parallel import run_together
from img_core.spec.cache import CacheBackend, CacheContext, CacheLoad, CachePruned, CacheRecord, CacheReport
from img_core.spec.errors import Canceled, ImgError, IntegrityError, NotFoundError
from img_core.spec.values import Descriptor
from img_lib_cache import options as given
from img_lib_cache.envelope import FoundBodies, unpack
from img_lib_cache.segments import segment_prefix, written_at
from img_lib_cache.signing import SigningKey, TrustedKeys
from img_lib_cache.union import united

if TYPE_CHECKING:
    from img_core.spec.exporter import ExportProgress
    from img_lib_cache.document import Body
    from img_lib_cache.places import Place

__all__ = ["DocumentCache"]

_STALE_SECONDS = 3600.0  # a document of this age may be one that cannot be replaced: then segments count
_READERS = 4
_CHUNK = 256 * 1024


class DocumentCache(CacheBackend):
    """What is common to all places; a subclass gives `open_place`, `tag` and its own options."""

    #: its own options that are for an export (True) or for an import (False) only
    own_options: ClassVar[Mapping[str, bool]] = {}
    #: it is far away, so layers are sent while the build goes on; those of a build that fails stay without a document
    sends_early: ClassVar[bool] = False

    def __init__(self, context: CacheContext, options: Mapping[str, Any]) -> None:  # Any: JSON
        super().__init__(context, options)
        self.all_layers = options.get("mode") == "max"
        self.ignores_errors = bool(options.get("ignore-error"))
        self.layer_form = given.layer_form(options)
        self.forces_form = bool(options.get("force-compression"))
        self.max_age = given.duration(options, "max-age")
        self.max_size = given.size(options, "max-size")
        self.mount_limit = self.mount_limit if self.max_size is None else self.max_size
        self._mounts = given.mounts(options, default=False)
        self.warnings: dict[str, None] = {}  #: of the call that runs
        self._known: tuple[bytes | None, TrustedKeys | None, FoundBodies] = (
            None,
            None,
            FoundBodies(),
        )  # the rolling document

    @abstractmethod
    def open_place(self) -> Place:
        """Return where everything is kept; called once, before the first use."""

    @property
    @abstractmethod
    def tag(self) -> str:
        """The name of the rolling document."""

    @cached_property
    def place(self) -> Place:
        """Where everything is kept."""
        return self.open_place()

    @cached_property
    def signing_key(self) -> SigningKey | None:
        """What documents are signed with."""
        return SigningKey(self.options["sign"]) if self.options.get("sign") else None

    @cached_property
    def trust(self) -> TrustedKeys | None:
        """Whose documents are used; None: everybody's."""
        return TrustedKeys.read(self.options["trust"]) if self.options.get("trust") else None

    def check(self, *, export: bool) -> None:
        """Refuse options that mean nothing for this direction, and keys that cannot be read."""
        given.only_for(export, self.options, self.own_options)
        self._mounts = given.mounts(self.options, default=not export)
        _ = self.signing_key, self.trust

    def carries_mount(self, name: str) -> bool:
        """Tell what the option ``cache-mounts`` says."""
        return self._mounts(name)

    def close(self) -> None:
        """End connections, if there are any."""
        if "place" in self.__dict__:
            self.place.close()

    # ------------------------------------------------------------------------------------------------------- reading

    def load(self) -> CacheLoad:
        """Read the rolling document; segments as well if it is missing, unusable, or old enough to be one that cannot be replaced."""
        self.warnings.clear()
        missing: NotFoundError | None = None
        try:
            found = self.read(self.tag, self.trust)
        except NotFoundError as err:
            missing, found = err, FoundBodies()
        bodies = list(found.bodies)
        newest = max((body.created for body in bodies), default=0.0)
        if self.place.lists_tags and found.replaceable and time.time() - newest > _STALE_SECONDS:
            merged = {name for body in bodies for name in body.segments}
            told = dict(self.warnings)
            parts, _ = self.read_segments(self.segments() - merged, self.trust)
            bodies += parts
            if told and not parts:  # what is wrong with the whole is wrong with its parts: that is one line
                self.warnings = told
        if missing and not bodies:
            raise missing
        return CacheLoad(tuple(united(record for body in bodies for record in body.records)), tuple(self.warnings))

    def fetch(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        """Give a blob's bytes."""
        return self.place.fetch(descriptor, start)

    def read(self, tag: str, trust: TrustedKeys | None) -> FoundBodies:
        """Return what *tag* has; what was read before is not fetched again. Raises NotFoundError, or ImgError if it cannot be reached."""
        place = self.place
        name = place.title if tag == self.tag else f"{place.title} ({tag})"
        try:
            manifest = place.read(tag)
        except IntegrityError as err:
            self.warnings[f"{name} is damaged: {err.message}"] = None
            return FoundBodies()
        if (manifest, trust) == self._known[:2]:
            return self._known[2]
        found = unpack(manifest, self._whole, name, document=place.document, trust=trust)
        self.warnings.update(dict.fromkeys(found.warnings))
        if tag == self.tag:
            self.remember(manifest, trust, found)
        return found

    def remember(self, manifest: bytes, trust: TrustedKeys | None, found: FoundBodies) -> None:
        """Note what the rolling document *manifest* says."""
        self._known = manifest, trust, found

    def _whole(self, descriptor: Descriptor) -> bytes:
        """Return a document's bytes. What was fetched is kept in the state directory: the next build asks only for the manifest."""
        store = self.context.store
        try:
            return store.read(descriptor.digest)
        except (NotFoundError, IntegrityError):
            content = b"".join(self.place.fetch(descriptor))
        if len(content) <= oci.DOCUMENT_LIMIT and oci.digest(content, descriptor.digest) == descriptor.digest:
            store.put(content, descriptor.media_type, digest=descriptor.digest)
        return content

    def segments(self) -> set[str]:
        """Return the names of all segments."""
        prefix = segment_prefix(self.tag)
        try:
            found = self.place.tags(prefix)
        except Canceled:
            raise
        except ImgError as err:  # not every registry lets everybody list
            self.warnings[f"what others wrote to {self.place.title} is not seen: {err.message}"] = None
            return set()
        return {name for name in found if name.startswith(prefix) and written_at(name) is not None}

    def read_segments(self, names: Iterable[str], trust: TrustedKeys | None) -> tuple[list[Body], set[str]]:
        """Return what segments have, and the names of those that could not be read. One that vanishes meanwhile was merged by others."""
        found: dict[str, tuple[Body, ...]] = {}
        unread: set[str] = set()

        def read(name: str) -> None:
            try:
                found[name] = self.read(name, trust).bodies
            except NotFoundError:
                pass
            except Canceled:
                raise
            except ImgError as err:
                self.warnings[f"a part of {self.place.title} cannot be read: {err.message}"] = None
                unread.add(name)

        run_together([partial(read, name) for name in sorted(names)], workers=_READERS, stop=self.place.close)
        return [body for name in sorted(found) for body in found[name]], unread

    # ------------------------------------------------------------------------------------------------------- writing

    def send(self, descriptor: Descriptor) -> None:
        """Store a blob before there is a document that names it."""
        if self.sends_early and not self.forces_form:
            self.bring(descriptor)

    def bring(self, descriptor: Descriptor, passed: Callable[[int], None] = lambda _count: None) -> None:
        """Store a blob of our store; *passed* hears how many bytes of it were read."""
        store = self.context.store

        def read(start: int) -> Iterator[bytes]:
            done = start
            with store.open(descriptor.digest) as file:
                file.seek(start)
                while chunk := file.read(_CHUNK):
                    yield chunk
                    done += len(chunk)
                    passed(done)

        self.place.add(descriptor, read, origins=store.origins(descriptor.digest))

    def save(self, records: Sequence[CacheRecord], progress: ExportProgress) -> CacheReport:
        """Publish a segment with what is new, then the union of everything."""
        from img_lib_cache.saving import Save

        self.warnings.clear()
        return Save(self, progress).run(records)

    def prune(
        self,
        progress: ExportProgress,
        *,
        max_age: float | None = None,
        max_size: int | None = None,
        dry_run: bool = False,
    ) -> CachePruned:
        """Publish the union of everything without what goes."""
        from img_lib_cache.saving import Save

        self.warnings.clear()
        return Save(self, progress).prune(max_age, max_size, dry_run=dry_run)
