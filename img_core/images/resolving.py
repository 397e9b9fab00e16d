"""Which exact image a reference means: asked once per build, remembered for when nobody answers."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol

from img_core.images import oci, platforms
from img_core.images.kept import find_by_id
from img_core.images.origins import fetch_left, pinned_before
from img_core.images.reference import Reference, full_id
from img_core.linux.parallel import Answer, run_together
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import ImgError, NotFoundError, RegistryError
from img_core.spec.frontend import BaseImage, BuildWarning
from img_core.spec.source_op import IMAGE_SCHEME, SourceOp
from img_core.spec.values import Descriptor, Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from img_core.images.contents import ImageContent
    from img_core.images.kept import ImageNames
    from img_core.spec.source import ImageSource, PinnedImage
    from img_core.spec.values import Platform

__all__ = ["ImageResolver", "Pin", "ResolvedImage"]

_WORKERS = 4  # images that are looked up at the same time
_CUT_ID_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Pin:
    """What a reference meant when it was *checked* (seconds since 1970 UTC)."""

    top: Digest
    manifest: Digest
    checked: float


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """An exact image; its documents are in the store, its layers perhaps not. *fetch* gets one of them, from a byte on.

    *remote* tells that they come from registries, where those that nothing needs can stay; other sources may be gone tomorrow.
    """

    reference: str
    content: ImageContent
    fetch: Callable[[Descriptor, int], Iterator[bytes]]
    remote: bool = True
    top: str = ""  #: digest of what the reference names: an index or a manifest

    @property
    def base(self) -> BaseImage:
        """What a frontend may know of it."""
        config = self.content.config
        return BaseImage(self.reference, self.content.manifest.digest, config.platform, config.document)


class _Pins(Protocol):
    """What references meant, by name and by platform."""

    def pin(self, reference: str, platform: str) -> Pin | None: ...

    def set_pin(self, reference: str, platform: str, pin: Pin) -> None: ...


class _Blobs(Protocol):
    """What is known of blobs."""

    def has(self, digest: Digest) -> bool: ...

    def size(self, digest: Digest) -> int | None: ...

    def media_type(self, digest: Digest) -> str: ...

    def origins(self, digest: Digest) -> list[str]: ...

    def remember_origins(self, digests: Iterable[Digest], repository: str) -> None: ...


class _Store(Protocol):
    """What is kept here, and what is remembered of registries."""

    @property
    def images(self) -> ImageNames: ...

    @property
    def records(self) -> _Pins: ...

    @property
    def blobs(self) -> _Blobs: ...

    def put(self, data: bytes, media_type: str, *, digest: Digest | None = None) -> Descriptor: ...

    def read(self, digest: Digest) -> bytes: ...

    def origins(self, digest: Digest) -> list[str]: ...


class _Events(Protocol):
    """Who hears how asking a registry goes."""

    def started(self, step: str, name: str) -> None: ...

    def finished(self, step: str, *, error: str = "") -> None: ...

    def warn(self, warning: BuildWarning) -> None: ...


class ImageResolver:
    """Finds images, the same one for a name and a platform each time.

    An image is looked for in this order: the local store (unless *pull*), what its registry said less than *trust_seconds* ago, and its
    registry (one request if the tag did not move); when that cannot be reached, what it said last is taken, with a warning. What was said
    to a build that was not *verified* (plain HTTP and unverified TLS were fine for it) counts for such builds only. *offline*, what a
    registry said last counts for ever. What *like*, another resolver, has found is not looked for again.
    """

    def __init__(
        self,
        store: _Store,
        source: Callable[[str], ImageSource],
        events: _Events,
        *,
        pull: bool = False,
        trust_seconds: float = 0.0,
        offline: bool = False,
        verified: bool = True,
        like: ImageResolver | None = None,
    ) -> None:
        self._store = store
        self._source = source
        self._events = events
        self._pull = pull
        self._trust_seconds = math.inf if offline else trust_seconds
        self._offline = offline
        self._trusted = "" if verified else " unverified"  #: part of what is remembered of tags
        #: by name and platform
        self.answers: dict[tuple[str, str], Answer[ResolvedImage]] = like.answers if like else {}

    def resolve(self, op: SourceOp, platform: Platform) -> ResolvedImage:
        """Return the image that *op* names for *platform*. Raises NotFoundError, RegistryError, CredentialsError, IntegrityError."""
        if op.scheme != IMAGE_SCHEME:
            text = f"{op.scheme}://{op.reference}"
            return self._asked(text, platform, lambda: self._pin(op.scheme, op.reference, platform))
        reference = Reference.parse(op.reference)
        return self._known(reference, platform) or self._asked(
            str(reference), platform, lambda: self._ask(reference, platform)
        )

    def by_id(self, text: str, platform: Platform) -> ResolvedImage:
        """Return the stored image with the whole id *text*; no registry knows ids. Raises NotFoundError."""
        return self._asked(text, platform, lambda: self._by_id(text, platform))

    def expect(self, images: Sequence[tuple[SourceOp, Platform]]) -> None:
        """Ask for several images of registries at the same time; who wants one gets what came of it, or the error."""

        def look_up(op: SourceOp, platform: Platform) -> None:
            with suppress(ImgError):
                self.resolve(op, platform)

        missing = []
        for op, platform in images:
            with suppress(ImgError):
                if op.scheme == IMAGE_SCHEME and self._known(Reference.parse(op.reference), platform) is None:
                    missing.append(partial(look_up, op, platform))
        if len(missing) > 1:
            run_together(missing, workers=_WORKERS, stop=lambda: None)

    def _known(self, reference: Reference, platform: Platform) -> ResolvedImage | None:
        return self._answer(str(reference), platform).get(lambda: self._at_hand(reference, platform))

    def _asked(self, name: str, platform: Platform, ask: Callable[[], ResolvedImage]) -> ResolvedImage:
        found = self._answer(name, platform).get(ask)
        assert found is not None
        return found

    def _answer(self, name: str, platform: Platform) -> Answer[ResolvedImage]:
        return self.answers.setdefault((name, str(platform)), Answer())  # atomic

    def _pin(self, scheme: str, reference: str, platform: Platform) -> ResolvedImage:
        """Resolve an image of a source that is at hand: asked in each build, nothing is remembered."""
        source = self._source(scheme)
        pinned = source.pin(SourceOp(scheme, reference), platform)
        self._store_documents(pinned)
        content = next(self._store.images.contents(pinned.manifest))
        fetch, top = partial(source.blob_from, pinned), pinned.top.digest
        return ResolvedImage(f"{scheme}://{reference}", content, fetch, remote=False, top=top)

    def _at_hand(self, reference: Reference, platform: Platform) -> ResolvedImage | None:
        """Return the image if no registry needs to be asked."""
        if self._pull:
            return None
        name = str(reference)
        if local := self._local(name, platform):
            return local
        pin = self._store.records.pin(name, f"{platform}{self._trusted}")
        fresh = pin is not None and (reference.digest or 0 <= time.time() - pin.checked < self._trust_seconds)
        known = self._remembered(name, pin) if pin and fresh else None
        return known or (self._of_repository(reference, platform) if self._offline and reference.digest else None)

    def _of_repository(self, reference: Reference, platform: Platform) -> ResolvedImage | None:
        """Return the image of a digest, whatever tag it was known by; None unless its repository had it and its documents are here."""
        blobs, digest = self._store.blobs, Digest(reference.digest or "")
        size = blobs.size(digest) if reference.name in blobs.origins(digest) else None
        if size is None:
            return None
        try:
            contents = list(self._store.images.contents(Descriptor(blobs.media_type(digest), digest, size)))
        except ImgError:  # a document is missing or damaged
            return None
        is_single = [content.manifest.digest for content in contents] == [digest]
        return self._here(str(reference), contents, platform, digest, for_any=is_single)

    def _ask(self, reference: Reference, platform: Platform) -> ResolvedImage:
        """Ask the registry; when it cannot be reached, take what it said last."""
        name = str(reference)
        step = f"pin {name} {platform}"
        self._events.started(step, f"[internal] load metadata for {name}")
        try:
            resolved = self._ask_registry(reference, platform)
        except RegistryError as err:
            self._events.finished(step, error=str(err))
            pin = None if self._pull else self._store.records.pin(name, f"{platform}{self._trusted}")
            known = self._remembered(name, pin) if pin else None
            if known is None:
                raise
            message = f"{name} may have moved: {err.message}; used is {known.content.manifest.digest}, as it was last"
            self._events.warn(BuildWarning(message))
            return known
        except ImgError as err:
            self._events.finished(step, error=str(err))
            raise
        self._events.finished(step)
        return resolved

    def _by_id(self, text: str, platform: Platform) -> ResolvedImage:
        """Return the stored image with the id *text*. No registry knows ids."""
        found = self._local(text, platform)
        if found is None:
            raise NotFoundError(
                f"image {text}: not found", hint="an id means an image of this state directory: see `img ls`"
            )
        return found

    def _local(self, name: str, platform: Platform) -> ResolvedImage | None:
        image = self._store.images.find(name) or find_by_id(self._store.images, _as_id(name))
        if image is None:
            return None
        contents = list(self._store.images.contents(image.descriptor))
        return self._here(name, contents, platform, image.descriptor.digest, for_any=len(contents) == 1)

    def _here(
        self, name: str, contents: Sequence[ImageContent], platform: Platform, top: Digest, *, for_any: bool
    ) -> ResolvedImage | None:
        """Return the one of *contents* for *platform*; the first if it is *for_any*, as docker does (the frontend warns); or None."""
        choice = platforms.choose(platform, [content.config.platform for content in contents])
        if choice is None and not for_any:
            return None
        content = contents[choice or 0]
        fetch = partial(fetch_left, self._store, self._source, name, content)
        return ResolvedImage(name, content, fetch, top=top)

    def _remembered(self, name: str, pin: Pin) -> ResolvedImage | None:
        size = self._store.blobs.size(pin.manifest)
        if size is None:
            return None
        try:
            content = self._content(pin, size)
        except ImgError:  # a document is missing or damaged: ask again
            return None

        def fetch(layer: Descriptor, start: int) -> Iterator[bytes]:
            return self._source(IMAGE_SCHEME).blob_from(pinned_before(self._store, name, content), layer, start)

        return ResolvedImage(name, content, fetch, top=pin.top)

    def _content(self, pin: Pin, size: int) -> ImageContent:
        manifest = Descriptor(self._store.blobs.media_type(pin.manifest), pin.manifest, size)
        return next(self._store.images.contents(manifest))

    def _ask_registry(self, reference: Reference, platform: Platform) -> ResolvedImage:
        source = self._source(IMAGE_SCHEME)
        pinned = source.pin(SourceOp(IMAGE_SCHEME, str(reference)), platform)
        self._keep(pinned)
        pin = Pin(pinned.top.digest, pinned.manifest.digest, time.time())
        self._store.records.set_pin(str(reference), f"{platform}{self._trusted}", pin)
        content = next(self._store.images.contents(pinned.manifest))
        return ResolvedImage(str(reference), content, partial(source.blob_from, pinned), top=pin.top)

    def _keep(self, pinned: PinnedImage) -> None:
        """Store the documents of *pinned*, and where its layers can be had: a push can copy them from there."""
        self._store_documents(pinned)  # first: whoever removes garbage meanwhile forgets what no document in use names
        blobs = [*pinned.documents, *(layer.digest for layer in pinned.layers)]
        self._store.blobs.remember_origins(blobs, Reference.parse(pinned.reference).name)

    def _store_documents(self, pinned: PinnedImage) -> None:
        types = {item.digest: item.media_type for item in (pinned.top, pinned.manifest, pinned.config)}
        for digest, data in pinned.documents.items():
            if not self._store.blobs.has(digest):
                self._store.put(data, types.get(digest, oci.OCI_MANIFEST), digest=digest)


def _as_id(name: str) -> str:
    """Return what could be an id in *name*, as it comes from a frontend: a whole one, or at least 12 digits without host and tag.

    Fewer could be the name of an image in a registry that nobody has here yet.
    """
    if full_id(name):
        return name
    short = Reference.parse(name).familiar().removesuffix(":latest")
    return short if len(short) >= _CUT_ID_LENGTH and set(short) <= set("0123456789abcdef") else ""
