"""The operations of a client, done in this process; `Client` says what each promises.

Their arguments and results are plain data (but for streams, which only callers in the same process give): `img_core.api._worker` calls
the same methods in a process of its own.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from img_core.api._values import ImageDetails, LoadResult, PushResult, StateReport, StoredImage
from img_core.spec.errors import ImgError, NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from img_core.api._credentials import Accounts, LoggedOut
    from img_core.api._handle import CancelHandle
    from img_core.api._request import BuildRequest, BuildResult
    from img_core.api._values import RecordedBuild, Unpacked
    from img_core.api.session import Session
    from img_core.config import Config
    from img_core.plugins import Plugins
    from img_core.spec.exporter import Exporter
    from img_core.spec.frontend import BuildWarning
    from img_core.spec.progress import Event
    from img_core.spec.values import Credentials, Platform
    from img_core.store import Store
    from img_core.store.images import Image
    from img_core.store.usage import Piece

    Listener = Callable[[Event], None]

__all__ = ["Local"]


class Local:
    """One state directory, used from this process. *notice* and *trace*: see `Client`."""

    def __init__(
        self, config: Config, *, notice: Callable[[str], None], trace: Callable[[str], None] = lambda _text: None
    ) -> None:
        self.config = config
        self._notice = notice
        self._trace = trace
        self._entered: Session | None = None

    # ------------------------------------------------------------------------------------------------------- opening

    def enter(self) -> Session:
        """Enter the user namespace now, and keep what is set up until `close`: for callers that start threads afterwards."""
        if self._entered is None:
            self._entered = self._opened(namespace=True)
        return self._entered

    @property
    def plugins(self) -> Plugins:
        from img_core.plugins import Plugins

        return self._entered.plugins if self._entered is not None else Plugins(self.config, self._trace)

    def close(self) -> None:
        """Close what `enter` opened."""
        if self._entered is not None:
            self._entered.close()
            self._entered = None

    def _opened(self, *, namespace: bool, cleaning: bool = False) -> Session:
        from img_core.api.session import Session

        return Session(self.config, namespace=namespace, cleaning=cleaning, notice=self._notice, trace=self._trace)

    @contextmanager
    def _session(self, *, namespace: bool) -> Iterator[Session]:
        if self._entered is not None:
            yield self._entered
            return
        with self._opened(namespace=namespace) as session:
            yield session

    def _store(self, *, writable: bool = False, cleaning: bool = False) -> Store:
        """Open the state directory without entering a namespace: for what touches no file of other owners."""
        from img_core.store import Store

        state = self._trusted_state()
        return Store(state, writable=writable or cleaning, cleaning=cleaning, notice=self._notice)

    def _trusted_state(self) -> str:
        """Return the state directory. Raises StateError if somebody else may write to it."""
        from img_core.files.trust import check_trusted

        check_trusted(self.config.state_directory, self.config.environment)
        return self.config.state_directory

    @property
    def _is_new(self) -> bool:
        """Whether nothing was ever kept here: looking makes no directories."""
        return not os.path.exists(os.path.join(self.config.state_directory, "img.db"))

    # ------------------------------------------------------------------------------------------------------ building

    @contextmanager
    def _build(
        self, request: BuildRequest, cancel: CancelHandle | None, on_event: Listener | None = None
    ) -> Iterator[Any]:  # Any: a Build, whose module is only imported here
        from img_core.api._build import Build
        from img_core.linux.cancellation import Cancellation

        with ExitStack() as opened:
            session = opened.enter_context(self._session(namespace=True))
            cancellation = Cancellation()
            opened.callback(cancellation.close)
            if cancel is not None:
                opened.enter_context(cancel.stopping(cancellation.cancel))
            yield Build(session, request, cancellation, [on_event] if on_event else [])

    def build(
        self, request: BuildRequest, *, cancel: CancelHandle | None = None, on_event: Listener | None = None
    ) -> BuildResult:
        with self._build(request, cancel, on_event) as build:
            result: BuildResult = build.run()
            return result

    def check(self, request: BuildRequest, *, cancel: CancelHandle | None = None) -> tuple[BuildWarning, ...]:
        with self._build(request, cancel) as build:
            found: tuple[BuildWarning, ...] = build.check()
            return found

    def outline(self, request: BuildRequest, *, cancel: CancelHandle | None = None) -> Mapping[str, Any]:  # Any: JSON
        with self._build(request, cancel) as build:
            found: Mapping[str, Any] = build.outline()
            return found

    def targets(self, request: BuildRequest, *, cancel: CancelHandle | None = None) -> Mapping[str, Any]:  # Any: JSON
        with self._build(request, cancel) as build:
            found: Mapping[str, Any] = build.targets()
            return found

    def builds(self, *, limit: int = 0) -> tuple[RecordedBuild, ...]:
        from img_core.api._builds import recorded_builds

        return tuple(recorded_builds(self._trusted_state(), limit=limit))

    def logs(self, build: str = "", *, step: int = 0) -> Iterator[Event]:
        from img_core.api._builds import events_of, find_build

        state = self._trusted_state()
        return events_of(state, find_build(state, build), step=step)

    def definition_name(self, request: BuildRequest) -> str:
        from img_core.api._frontends import Frontends

        return Frontends(self.plugins, request.frontend, request.frontend_options).names.usual

    # --------------------------------------------------------------------------------------------------- kept images

    def images(self, *, labels: bool = False) -> tuple[StoredImage, ...]:
        with self._store() as store:
            return tuple(_shown(store, image, labels=labels) for image in store.images.list())

    def image(self, name: str) -> StoredImage:
        from img_core.api._images import get_image

        with self._store() as store:
            return _shown(store, get_image(store, name))

    def inspect(self, name: str, *, platform: str = "") -> ImageDetails:
        from img_core.api._images import get_image
        from img_core.api._inspect import details

        wanted = _platform(platform)
        with self._store() as store:
            image = get_image(store, name)
            return details(store, _shown(store, image), store.images.content(image.descriptor, wanted, name))

    def tag(self, source: str, target: str) -> StoredImage:
        from img_core.api._images import get_image
        from img_core.images.names import new_name

        name = new_name(target, pinned=True)
        with self._store(writable=True) as store:
            store.tag(name, get_image(store, source).descriptor)
            return _shown(store, store.images.get(name))

    def remove(self, name: str, *, force: bool = False) -> tuple[str, ...]:
        from img_core.api._images import get_image

        with self._store(cleaning=True) as store:
            names = _names_to_forget(store, get_image(store, name), name, force=force)
            for known in names:
                store.images.remove(known)
            return names

    def missing(self, name: str, *, platform: str = "") -> tuple[str, ...]:
        from img_core.api._images import get_image

        wanted = _platform(platform)
        with self._store() as store:
            target, images = get_image(store, name).descriptor, store.images
            return tuple(images.left([images.content(target, wanted, name)] if wanted else images.contents(target)))

    def complete(self, name: str, *, platform: str = "", on_event: Listener | None = None) -> None:
        from img_core.api._images import get_image

        wanted = _platform(platform)
        with self._session(namespace=False) as session:
            _complete(session, get_image(session.store, name), name, wanted, on_event)

    # ------------------------------------------------------------------------------------------------------ archives

    def save(
        self, names: Sequence[str], dest: str | None, *, docker: bool = True, on_event: Listener | None = None
    ) -> None:
        from img_core.api._images import get_image, save
        from img_core.api._transfers import counting

        exporter = self._exporter("docker" if docker else "oci")
        with self._store() as store:
            images = [get_image(store, name) for name in names]
            left = [image for image in images if store.images.left(store.images.contents(image.descriptor))]
        if left:  # needs more of this process than reading does
            with self._session(namespace=False) as session:
                for image in left:
                    _complete(session, image, image.name, None, on_event)
        with self._store() as store:
            total = sum(store.images.content_size(image) or 0 for image in images) if on_event else 0
            with counting(f"saving {', '.join(names)}", total, on_event) as tick:
                save(store, names, dest, exporter=exporter, tick=tick)

    def _exporter(self, name: str) -> Exporter:
        """Return the exporter *name*. Raises PluginError that says who switched it off."""
        from img_core.plugins import Choice
        from img_core.spec.host import Host

        config = self.config
        host = Host("none", config.state_directory, "", environment=config.environment)
        made: Exporter = self.plugins.make("exporter", Choice(name, {}), host)
        return made

    def load(
        self, source: str | BinaryIO, *, name: str = "", on_event: Listener | None = None
    ) -> tuple[LoadResult, ...]:
        from img_core.api._images import load
        from img_core.api._transfers import Watched, counting
        from img_core.images.names import new_name

        given = new_name(name) if name else ""
        with ExitStack() as opened:
            shown = source if isinstance(source, str) else "standard input"
            stream = opened.enter_context(_archive(source)) if not _is_directory(source) else None
            store = opened.enter_context(self._store(writable=True))
            size = os.fstat(stream.fileno()).st_size if stream is not None else 0
            tick = opened.enter_context(counting(f"loading {shown}", size, on_event))
            found = load(store, source if stream is None else Watched(stream, tick), self.plugins)
            return _name_the_nameless(store, found, given)

    def import_rootfs(
        self,
        source: str | BinaryIO,
        name: str,
        *,
        config: Mapping[str, Any] | None = None,  # Any: JSON
        platform: str = "",
    ) -> StoredImage:
        from img_core.api._images import import_rootfs
        from img_core.images.names import new_name

        wanted, known = _platform(platform), new_name(name)
        with _archive(source) as stream, self._store(writable=True) as store:
            import_rootfs(store, stream, name, config=config, platform=wanted)
            return _shown(store, store.images.get(known))

    def unpack(
        self, name: str, directory: str, *, platform: str = "", force: bool = False, on_event: Listener | None = None
    ) -> Unpacked:
        from img_core.api._images import get_image
        from img_core.api._unpack import unpack

        wanted = _platform(platform)
        with self._session(namespace=True) as session:
            image = get_image(session.store, name)
            content = session.store.images.content(image.descriptor, wanted, name)
            if session.store.images.left([content]):
                _complete(session, image, image.name, content.config.platform, on_event)
            owners = session.host.mapping in ("root", "container")
            return unpack(session.store, name, directory, owners=owners, platform=wanted, force=force)

    # ---------------------------------------------------------------------------------------------------- registries

    def pull(
        self,
        name: str,
        *,
        platforms: Sequence[str] = (),
        all_platforms: bool = False,
        insecure: Sequence[str] = (),
        on_event: Listener | None = None,
    ) -> StoredImage:
        from img_core.api._pull import pull
        from img_core.api._transfers import reporting
        from img_core.images import platforms as known
        from img_core.images.reference import Reference

        wanted = [known.parse(text) for text in platforms]
        if wanted and all_platforms:
            raise UsageError("all platforms and some platforms exclude each other")
        full = str(Reference.parse(name).with_default_tag())
        # Blobs belong to us, whoever owns the files inside: no namespace is needed to fetch them.
        with self._session(namespace=False) as session, reporting(f"pulling {full}", on_event) as status:
            pull(session, name, wanted=wanted, all_platforms=all_platforms, insecure=insecure, status=status)
            return _shown(session.store, session.store.images.get(full, name))

    def push(
        self,
        name: str,
        *,
        destination: str = "",
        platform: str = "",
        insecure: Sequence[str] = (),
        on_event: Listener | None = None,
    ) -> PushResult:
        from img_core.api._images import get_image
        from img_core.api._push import push, refuse_id
        from img_core.api._transfers import reporting
        from img_core.images.reference import Reference

        wanted = _platform(platform)
        if not destination:
            refuse_id(name)
        full = str(Reference.parse(destination or name).with_default_tag())
        with ExitStack() as opened:
            session = opened.enter_context(self._session(namespace=False))
            get_image(session.store, name)  # a wrong name is told before anything is shown
            status = opened.enter_context(reporting(f"pushing {full}", on_event, verb="pushing"))
            done = push(session, name, destination=destination, platform=wanted, insecure=insecure, status=status)
        return PushResult(full, str(done.digest), done.sent, done.mounted, done.existed)

    def login(self, server: str, credentials: Credentials, *, insecure: Sequence[str] = ()) -> bool:
        from img_core.api._credentials import server_name

        return self._accounts().log_in(server_name(server), credentials, insecure=insecure)

    def logout(self, server: str) -> LoggedOut:
        from img_core.api._credentials import server_name

        return self._accounts().log_out(server_name(server))

    def logins(self) -> Mapping[str, str]:
        return self._accounts().list()

    def credentials(self, server: str) -> Credentials | None:
        from img_core.api._credentials import server_name

        return self._accounts().find(server_name(server))

    def _accounts(self) -> Accounts:
        from img_core.api._credentials import Accounts

        return Accounts(self.plugins, self.config.environment, self._notice)

    # --------------------------------------------------------------------------------------------------------- space

    def usage(self) -> tuple[Piece, ...]:
        from img_core.store.collect import survey

        if self._is_new:
            return ()
        # In the namespace: the files of a root file system may be readable only for their owners.
        with self._opened(namespace=True, cleaning=True) as session:
            return tuple(survey(session.store))

    def fsck(self, *, repair: bool = False, read_data: bool = False) -> StateReport:
        from img_core.files.trust import check_trusted
        from img_core.store.fsck import check, request_check

        state = self.config.state_directory
        if not os.path.isdir(state):
            return StateReport()
        check_trusted(state, self.config.environment)
        if repair:
            request_check(state)
        with self._store(cleaning=repair) as store:
            found = check(store, repair=repair, read_data=read_data)
        return StateReport(tuple(found.problems), dict(found.checked))

    def prune(
        self,
        *,
        images: str = "untagged",
        cache: str = "all",
        records: bool = False,
        unused_seconds: float = 0.0,
        keep_bytes: int = 0,
        dry_run: bool = False,
        matching: Callable[[Piece], bool] | None = None,
    ) -> tuple[Piece, ...]:
        from img_core.api._pruning import policies
        from img_core.store.collect import prune

        wanted = policies(
            images=images, cache=cache, records=records, unused=unused_seconds, keep=keep_bytes, matching=matching
        )
        if self._is_new:
            return ()
        with self._opened(namespace=True, cleaning=True) as session:
            return tuple(piece for policy in wanted for piece in prune(session.store, policy, dry_run=dry_run))

    def prune_images(self, names: Sequence[str]) -> int:
        from img_core.store.collect import Policy, prune

        if self._is_new or not names:
            return 0
        policy = Policy(images=lambda image: image.name in names, only_images=True)
        with self._opened(namespace=True, cleaning=True) as session:
            return sum(piece.size for piece in prune(session.store, policy))


def _platform(text: str) -> Platform | None:
    from img_core.images import platforms

    return platforms.parse(text) if text else None


def _shown(store: Store, image: Image, *, labels: bool = False) -> StoredImage:
    target = image.descriptor
    return StoredImage(
        image.name,
        target.digest,
        target.media_type,
        store.images.content_size(image),
        image.created,
        image.updated,
        target.annotations,
        _labels(store, image) if labels else {},
    )


def _labels(store: Store, image: Image) -> Mapping[str, str]:
    """Return the labels of the config, of the host's platform if there are several; none for an image that is damaged."""
    try:
        content = store.images.content(image.descriptor, None, image.name)
    except ImgError:
        return {}
    return (content.config.document.get("config") or {}).get("Labels") or {}


def _names_to_forget(store: Store, image: Image, shown: str, *, force: bool) -> tuple[str, ...]:
    """Return what has to be forgotten for *image* to go: its name, or all names of one that was found by its id, if *force* says so."""
    from img_core.images.reference import Reference

    if not image.is_untagged:
        if "@" in shown and image.name != str(Reference.parse(shown).with_default_tag()):
            raise NotFoundError(f'image "{shown}": not found', hint=f"that image is called {image.name}")
        return (image.name,)
    names = tuple(other.name for other in store.images.list() if other.descriptor.digest == image.descriptor.digest)
    if not names:
        raise UsageError(f"`{shown}` is one platform of an image with several", hint="remove that image")
    if len(names) > 1 and not force:
        raise UsageError(f"{shown} has several names: {', '.join(names)}", hint="remove one of them, or all with `-f`")
    return names


def _complete(session: Session, image: Image, name: str, platform: Platform | None, on_event: Listener | None) -> None:
    from img_core.api._fetch import complete
    from img_core.api._transfers import reporting

    with reporting(f"fetching layers of {name}", on_event) as status:
        complete(session, name, image.descriptor, platform=platform, status=status)


def _is_directory(source: str | BinaryIO) -> bool:
    return isinstance(source, str) and os.path.isdir(source)


@contextmanager
def _archive(source: str | BinaryIO) -> Iterator[BinaryIO]:
    """Open the file *source*, or give it as it is. Raises UsageError."""
    from img_core.spec.text import show

    if not isinstance(source, str):
        yield source
        return
    try:
        file = open(source, "rb")  # noqa: SIM115  # closed below; here only the failure to open it is translated
    except OSError as err:
        raise UsageError(f"cannot read `{show(source)}`: {(err.strerror or str(err)).lower()}") from err
    with file:
        yield file


def _name_the_nameless(store: Store, found: Sequence[Any], name: str) -> tuple[LoadResult, ...]:  # Any: LoadedImage
    """Give the one image without a name *name*; without that such images are kept under their ids, as docker does. Raises UsageError."""
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
