"""The client: everything that img does, as typed calls."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import BinaryIO, Unpack

    from img_core.api._credentials import LoggedOut
    from img_core.api._given import BuildOptions, StrPath, Words
    from img_core.api._handle import CancelHandle
    from img_core.api._local import Local
    from img_core.api._request import BuildRequest, BuildResult, Output
    from img_core.api._values import (
        HistoryEntry,
        ImageDetails,
        LoadResult,
        PushResult,
        RecordedBuild,
        StateReport,
        StoredImage,
        Unpacked,
    )
    from img_core.config import Config
    from img_core.plugins import Plugins
    from img_core.spec.frontend import BuildWarning
    from img_core.spec.host import Host
    from img_core.spec.progress import Event
    from img_core.spec.values import Credentials
    from img_core.store.usage import Piece

    Listener = Callable[[Event], None]

__all__ = ["Client"]


class Client:
    """Builds, moves and looks at the images of one state directory.

    .. code-block:: python

        client = Client()
        client.pull("alpine:3.22")
        client.build(".", tags="app:1")
        client.push("app:1", destination="registry.example/app:1")

    *state* is the state directory (default: that of the command line), *no_plugins* names plugins that are not loaded (``kind:name``),
    *environment* replaces the variables of the process. *notice* gets one-line messages for people (default: the logger ``img``).

    Calls may come from several threads at once, and several clients may use one state directory. Whatever takes long, or needs a user
    namespace, is done in a process of its own: a process must have a single thread to enter one, and never leaves it again. With
    *in_process* it is done in this one, as the command line wants it; *cancel* stops only builds then, *trace* gets what only somebody
    reads who looks for a fault, and `close` (or the end of a ``with``) gives back what `enter` took.

    All errors are `ImgError`; whatever a call raises, nothing half-made is left. *on_event* is called with progress events
    (`img_core.spec.progress`) in the order in which they happen, from the thread of the call; if it raises, the work stops and the
    exception comes back. *cancel* stops the call from elsewhere, see `CancelHandle`.
    """

    def __init__(
        self,
        *,
        state: StrPath | None = None,
        no_plugins: Words = (),
        environment: Mapping[str, str] | None = None,
        notice: Callable[[str], None] | None = None,
        trace: Callable[[str], None] = lambda _text: None,
        in_process: bool = False,
    ) -> None:
        self._configuration = {
            "state": os.fspath(state) if state is not None else None,
            "no_plugins": (no_plugins,) if isinstance(no_plugins, str) else tuple(no_plugins),
            "environment": dict(environment) if environment is not None else None,
        }
        self._notice = notice or _log
        self._trace = trace
        self._kept = self._local() if in_process else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back what `enter` took; other clients keep nothing open."""
        if self._kept is not None:
            self._kept.close()

    def enter(self) -> None:
        """Enter the user namespace now, before the caller starts threads; only for a client that works in this process."""
        if self._kept is not None:
            self._kept.enter()

    @property
    def plugins(self) -> Plugins:
        """What is installed, and what of it is switched on."""
        return self._here().plugins

    @property
    def host(self) -> Host:
        """What drivers know of this host, from within the user namespace; only for a client that works in this process.

        Its run directory goes when the client is closed.
        """
        return self._here().enter().host

    def definition_name(self, request: BuildRequest) -> str:
        """Return what the frontend of *request* calls a build definition, e.g. for one that comes without a name."""
        return self._here().definition_name(request)

    @property
    def config(self) -> Config:
        """What the client is configured with. Raises UsageError for a file that cannot be understood."""
        return self._here().config

    # ------------------------------------------------------------------------------------------------------ building

    def build(
        self,
        context: StrPath | BuildRequest = ".",
        *,
        tags: Words = (),
        outputs: Output | Mapping[str, Any] | Iterable[Output | Mapping[str, Any]] = (),
        build_args: Mapping[str, str | None] | None = None,
        on_event: Listener | None = None,
        cancel: CancelHandle | None = None,
        **options: Unpack[BuildOptions],
    ) -> BuildResult:
        """Build an image from a Dockerfile.

        *context* is a directory, or a URL such as ``https://host/repository.git#branch``. One of several *tags* or *outputs* may be
        given alone. *outputs* are `Output` objects or mappings with the key ``type``, e.g. ``{"type": "oci", "dest": "app.tar"}``.
        *build_args* with the value None are taken from the environment. *options* are further fields of `BuildRequest`;
        a whole one may stand for the context, and what is given beside it counts more.

        Raises UsageError for a value of a wrong form, DockerfileError, StepError, RegistryError, CredentialsError, NotFoundError.
        """
        from img_core.api._given import request_of

        request = request_of(context, tags=tags, outputs=outputs, build_args=build_args or {}, **options)
        result: BuildResult = self._long("build", cancel, {"request": request}, on_event=on_event, stoppable=True)
        return result

    def check(
        self,
        context: StrPath | BuildRequest = ".",
        *,
        build_args: Mapping[str, str | None] | None = None,
        cancel: CancelHandle | None = None,
        **options: Unpack[BuildOptions],
    ) -> tuple[BuildWarning, ...]:
        """Return all findings about a build definition; build nothing. Arguments and errors as `build`."""
        found: tuple[BuildWarning, ...] = self._question("check", context, build_args, cancel, options)
        return found

    def outline(
        self,
        context: StrPath | BuildRequest = ".",
        *,
        build_args: Mapping[str, str | None] | None = None,
        cancel: CancelHandle | None = None,
        **options: Unpack[BuildOptions],
    ) -> Mapping[str, Any]:  # Any: JSON
        """Return what a target takes from outside: build arguments, secrets, ssh sockets. Arguments and errors as `build`."""
        found: Mapping[str, Any] = self._question("outline", context, build_args, cancel, options)
        return found

    def targets(
        self,
        context: StrPath | BuildRequest = ".",
        *,
        build_args: Mapping[str, str | None] | None = None,
        cancel: CancelHandle | None = None,
        **options: Unpack[BuildOptions],
    ) -> Mapping[str, Any]:  # Any: JSON
        """Return the stages that can be built. Arguments and errors as `build`."""
        found: Mapping[str, Any] = self._question("targets", context, build_args, cancel, options)
        return found

    def builds(self, *, limit: int = 0) -> tuple[RecordedBuild, ...]:
        """Return the builds of this state directory that have a log, newest first; at most *limit*, unless that is 0."""
        return self._here().builds(limit=limit)

    def logs(self, build: str = "last", *, step: int = 0) -> Iterator[Event]:
        """Give every event of a build in order, as `build` told them while it ran: also of one that failed, was killed or still runs.

        *build* is an id of `builds`, perhaps cut, or ``last``. With *step* only what belongs to the step of that number, counted from 1 in
        the order in which steps appear. What did not last is not in there: plans, and how parts of steps got on. Raises NotFoundError,
        for a number that no step has at the end.
        """
        return self._here().logs(build, step=step)

    def _question(
        self,
        operation: str,
        context: StrPath | BuildRequest,
        build_args: Mapping[str, str | None] | None,
        cancel: CancelHandle | None,
        options: BuildOptions,
    ) -> Any:  # Any: depends on the question
        from img_core.api._given import request_of

        request = request_of(context, build_args=build_args or {}, **options)
        return self._long(operation, cancel, {"request": request}, stoppable=True)

    # --------------------------------------------------------------------------------------------------- kept images

    def images(self, *, labels: bool = False) -> tuple[StoredImage, ...]:
        """Return all images, by name. With *labels* each has its labels, which takes a look into each."""
        return self._here().images(labels=labels)

    def image(self, name: str) -> StoredImage:
        """Return the image that *name* (a name or an id, perhaps cut) means. Found by an id, its name is that id.

        Raises NotFoundError, UsageError.
        """
        return self._here().image(name)

    def inspect(self, name: str, *, platform: str = "") -> ImageDetails:
        """Return everything about an image; of several platforms that of the host, or *platform*. Raises NotFoundError, UsageError."""
        return self._here().inspect(name, platform=platform)

    def history(self, name: str, *, platform: str = "") -> tuple[HistoryEntry, ...]:
        """Return how an image came to be, the oldest step first. Arguments and errors as `inspect`."""
        return self.inspect(name, platform=platform).history

    def tag(self, source: str, target: str) -> StoredImage:
        """Let the name *target* mean the image *source* as well; return it under that name. Raises NotFoundError, UsageError."""
        return self._here().tag(source, target)

    def remove(self, name: str, *, force: bool = False) -> tuple[str, ...]:
        """Forget the name of an image; by id all names, which must be one unless *force* is given. Content stays until it is pruned.

        Returns the names that were forgotten. Raises NotFoundError, UsageError.
        """
        return self._here().remove(name, force=force)

    # ---------------------------------------------------------------------------------------------------- registries

    def missing(self, name: str, *, platform: str = "") -> tuple[str, ...]:
        """Return the digests of layers that a build left in the registry of their base image, of *platform* or of all.

        Whatever needs them fetches them. Raises NotFoundError, UsageError.
        """
        return self._here().missing(name, platform=platform)

    def complete(
        self, name: str, *, platform: str = "", on_event: Listener | None = None, cancel: CancelHandle | None = None
    ) -> None:
        """Fetch what is `missing`. Raises NotFoundError, RegistryError, CredentialsError, IntegrityError, UsageError."""
        self._long("complete", cancel, {"name": name, "platform": platform}, on_event=on_event)

    def pull(
        self,
        name: str,
        *,
        platforms: Words = (),
        all_platforms: bool = False,
        insecure: bool = False,
        on_event: Listener | None = None,
        cancel: CancelHandle | None = None,
    ) -> StoredImage:
        """Fetch an image with all layers and keep it under its name, with the digest of the registry.

        Of several platforms only *platforms* (default: the host's) or *all_platforms* are fetched. *insecure* allows plain HTTP and
        certificates from nobody. Raises RegistryError, CredentialsError, NotFoundError, IntegrityError, UsageError.
        """
        arguments = {
            "name": name,
            "platforms": (platforms,) if isinstance(platforms, str) else tuple(platforms),
            "all_platforms": all_platforms,
            "insecure": _hosts(insecure),
        }
        image: StoredImage = self._long("pull", cancel, arguments, on_event=on_event)
        return image

    def push(
        self,
        name: str,
        *,
        destination: str = "",
        platform: str = "",
        insecure: bool = False,
        on_event: Listener | None = None,
        cancel: CancelHandle | None = None,
    ) -> PushResult:
        """Send an image to the registry and under the name that it has, or as *destination*; then *name* may be an id.

        Of several platforms all are sent, or only *platform*. *insecure* as `pull`. What the registry has is not sent again.
        Raises NotFoundError, RegistryError, CredentialsError, UsageError.
        """
        arguments = {"name": name, "destination": destination, "platform": platform, "insecure": _hosts(insecure)}
        result: PushResult = self._long("push", cancel, arguments, on_event=on_event)
        return result

    def login(
        self,
        server: str = "",
        *,
        username: str = "",
        password: str = "",
        identity_token: str = "",
        insecure: bool = False,
        cancel: CancelHandle | None = None,
    ) -> bool:
        """Check who we are with the registry *server* (empty: Docker Hub), and keep that; return whether it wanted to know at all.

        It takes *username* and *password*, or an *identity_token*. Raises CredentialsError, RegistryError, UsageError; nothing is kept.
        """
        from img_core.spec.errors import UsageError
        from img_core.spec.values import Credentials

        if not identity_token and not (username and password):
            raise UsageError("a login takes a user name and a password, or an identity token")
        known = Credentials(username, password, identity_token)
        arguments = {"server": server, "credentials": known, "insecure": _hosts(insecure)}
        return bool(self._long("login", cancel, arguments))

    def logout(self, server: str = "") -> LoggedOut:
        """Forget who we are to *server* (empty: Docker Hub)."""
        return self._here().logout(server)

    def logins(self) -> Mapping[str, str]:
        """Return where we are logged in, and as whom: server to user name, which is empty for an identity token."""
        return self._here().logins()

    def credentials(self, server: str = "") -> Credentials | None:
        """Return what is kept for *server*, secrets included; None if nothing is."""
        return self._here().credentials(server)

    # ------------------------------------------------------------------------------------------------------ archives

    def save(
        self,
        names: Words,
        dest: StrPath | None,
        *,
        format: Literal["docker", "oci"] = "docker",  # noqa: A002  # what everybody calls it
        on_event: Listener | None = None,
        cancel: CancelHandle | None = None,
    ) -> None:
        """Write images as one archive to the file *dest*, complete or not at all. Layers that are only in registries are fetched first.

        None as *dest* means standard output, for a client that works in this process. Raises NotFoundError, UsageError, RegistryError.
        """
        from img_core.spec.errors import UsageError

        if dest is None and self._kept is None:
            raise UsageError("`dest` of save() must be a path", hint="standard output belongs to the calling program")
        if format not in ("docker", "oci"):
            raise UsageError(f'"{format}" is not a valid format', hint="known: `docker`, `oci`")
        arguments = {
            "names": (names,) if isinstance(names, str) else tuple(names),
            "dest": os.fspath(dest) if dest is not None else None,
            "docker": format == "docker",
        }
        self._long("save", cancel, arguments, on_event=on_event)

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
        arguments = {"source": self._input(source, "load"), "name": name}
        found: tuple[LoadResult, ...] = self._long("load", cancel, arguments, on_event=on_event)
        return found

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
        arguments = {
            "source": self._input(source, "import_rootfs"),
            "name": name,
            "config": config,
            "platform": platform,
        }
        image: StoredImage = self._long("import_rootfs", cancel, arguments)
        return image

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

        With *force* it replaces a directory that an earlier call made, or one that has nothing which the new one has not. Devices are left
        out. Raises NotFoundError, UsageError, ArchiveError, IntegrityError.
        """
        arguments = {"name": name, "directory": os.fspath(directory), "platform": platform, "force": force}
        unpacked: Unpacked = self._long("unpack", cancel, arguments, on_event=on_event)
        return unpacked

    def _input(self, source: StrPath | BinaryIO, method: str) -> str | BinaryIO:
        from img_core.spec.errors import UsageError

        if isinstance(source, str | os.PathLike):
            return os.fspath(source)
        if self._kept is None:
            raise UsageError(f"`source` of {method}() must be a path, not {type(source).__name__}")
        return source

    # --------------------------------------------------------------------------------------------------------- space

    def usage(self, *, cancel: CancelHandle | None = None) -> tuple[Piece, ...]:
        """Return everything that takes space in the state directory, piece by piece."""
        pieces: tuple[Piece, ...] = self._long("usage", cancel, {})
        return pieces

    def fsck(self, *, repair: bool = False, read_data: bool = False, cancel: CancelHandle | None = None) -> StateReport:
        """Check what is stored; *repair* takes away what is damaged, *read_data* reads all layers, too."""
        report: StateReport = self._long("fsck", cancel, {"repair": repair, "read_data": read_data})
        return report

    def prune(
        self,
        *,
        images: Literal["none", "untagged", "all"] = "untagged",
        cache: Literal["unshared", "all"] = "all",
        records: bool = False,
        unused_seconds: float = 0.0,
        keep_bytes: int = 0,
        dry_run: bool = False,
        matching: Callable[[Piece], bool] | None = None,
        cancel: CancelHandle | None = None,
    ) -> tuple[Piece, ...]:
        """Remove build cache that neither an image that stays nor a running command needs; return what went.

        *images* may go, too: none, those without a name, or all. *cache* ``unshared`` spares what images share. *records* forgets resolved
        references and digests of files as well. What was used in the last *unused_seconds* stays, and so much of what was used last
        that *keep_bytes* are left in all. *matching* chooses among the pieces. With *dry_run* nothing is removed.
        """
        arguments = {
            "images": images,
            "cache": cache,
            "records": records,
            "unused_seconds": unused_seconds,
            "keep_bytes": keep_bytes,
            "dry_run": dry_run,
        }
        pieces: tuple[Piece, ...] = self._long("prune", cancel, arguments, matching=matching)
        return pieces

    def prune_images(self, names: Words, *, cancel: CancelHandle | None = None) -> int:
        """Forget images, by their names or digests as `images` gives them, with what only they have; return the bytes that this freed.

        The build cache stays.
        """
        arguments = {"names": (names,) if isinstance(names, str) else tuple(names)}
        return int(self._long("prune_images", cancel, arguments))

    # ----------------------------------------------------------------------------------------------------- machinery

    def _local(self) -> Local:
        from img_core.api._local import Local
        from img_core.config import Config

        config = Config.load(**self._configuration)  # type: ignore[arg-type]  # the very arguments
        return Local(config, notice=self._notice, trace=self._trace)

    def _here(self) -> Local:
        """Return what works in this process: for operations that are brief and need no namespace."""
        return self._kept or self._local()

    def _long(
        self,
        operation: str,
        cancel: CancelHandle | None,
        arguments: Mapping[str, Any],  # Any: of the operation
        *,
        on_event: Listener | None = None,
        matching: Callable[[Piece], bool] | None = None,
        stoppable: bool = False,
    ) -> Any:  # Any: depends on the operation
        """Do what takes long or needs a namespace, in a worker unless we are to work in this process."""
        told = {"on_event": on_event} if on_event is not None else {}
        asked = {"matching": matching} if matching is not None else {}
        if self._kept is not None:
            stop = {"cancel": cancel} if stoppable else {}
            return partial(getattr(self._kept, operation), **arguments, **told, **asked, **stop)()
        from img_core.api._handle import CancelHandle
        from img_core.api._worker import WorkerCall, run_in_worker

        call = WorkerCall(operation, arguments, self._configuration, stoppable, ("notice", *told), tuple(asked))
        return run_in_worker(call, {"notice": self._notice, **told, **asked}, cancel or CancelHandle())


def _hosts(insecure: bool) -> tuple[str, ...]:
    return ("*",) if insecure else ()


def _log(text: str) -> None:
    import logging

    logging.getLogger("img").warning("%s", text)
