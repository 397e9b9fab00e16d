"""Images on their way from and to registries, and who we are there."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from img_core.api._workplace import Workplace, apart, words
from img_core.images.reference import Reference, full_id, server_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.api._credentials import Accounts, LoggedOut
    from img_core.api._given import Words
    from img_core.api._values import PushResult
    from img_core.api._workplace import Listener
    from img_core.images.details import StoredImage
    from img_core.linux.cancellation import CancelHandle
    from img_core.spec.values import Credentials

__all__ = ["RegistryCalls", "refuse_id"]


class RegistryCalls(Workplace):
    """The calls of a client that ask registries."""

    @apart
    def complete(
        self, name: str, *, platform: str = "", on_event: Listener | None = None, cancel: CancelHandle | None = None
    ) -> None:
        """Fetch what is `missing`. Raises NotFoundError, RegistryError, CredentialsError, IntegrityError, UsageError."""
        from img_core.api._images import get_image, parsed_platform
        from img_core.api._transfers import complete

        wanted = parsed_platform(platform)
        with self._session(namespace=False) as session:
            complete(session, name, get_image(session.store, name).descriptor, platform=wanted, on_event=on_event)

    @apart
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
        from img_core.api._images import shown
        from img_core.api._transfers import reporting
        from img_core.images import platforms as known
        from img_core.images.pull import pull_image
        from img_core.spec.errors import UsageError
        from img_core.spec.source_op import IMAGE_SCHEME

        wanted = [known.parse(text) for text in words(platforms)]
        if wanted and all_platforms:
            raise UsageError("all platforms and some platforms exclude each other")
        full = str(Reference.parse(name).with_default_tag())
        # Blobs belong to us, whoever owns the files inside: no namespace is needed to fetch them.
        with self._session(namespace=False) as session, reporting(f"pulling {full}", on_event) as status:
            source = session.sources(insecure=_hosts(insecure))(IMAGE_SCHEME)
            pull_image(
                name,
                source,
                session.store,
                wanted=wanted,
                all_platforms=all_platforms,
                status=status,
                notice=session.notice,
            )
            return shown(session.store, session.store.images.get(full, name))

    @apart
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
        from img_core.api._images import get_image, parsed_platform
        from img_core.api._transfers import reporting
        from img_core.api._values import PushResult
        from img_core.images.contents import blobs_of
        from img_core.images.kept import check_pin
        from img_core.images.push import push_image
        from img_core.store.database import BLOB

        wanted = parsed_platform(platform)
        if not destination:
            refuse_id(name)
        reference = Reference.parse(destination or name).with_default_tag()
        with ExitStack() as opened:
            session = opened.enter_context(self._session(namespace=False))
            store = session.store
            top = get_image(store, name).descriptor  # a wrong name is told before anything is shown
            status = opened.enter_context(reporting(f"pushing {reference}", on_event, verb="pushing"))
            if wanted is not None:
                top = store.images.content(top, wanted, name).manifest
            check_pin(str(reference), top)
            blobs = blobs_of(top, store.images.contents(top))
            store.leases.take_all(BLOB, blobs)  # rather than one by one, each with a transaction while an upload waits
            with session.registry(insecure=_hosts(insecure)) as registry:
                done = push_image(reference, top, store, registry, status=status)
            # The repository has all of them now: the next push beside it can mount them.
            store.blobs.remember_origins(blobs, reference.name)
        return PushResult(str(reference), str(done.digest), done.sent, done.mounted, done.existed)

    @apart
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
        return self._accounts().log_in(server_name(server), known, insecure=_hosts(insecure))

    def logout(self, server: str = "") -> LoggedOut:
        """Forget who we are to *server* (empty: Docker Hub)."""
        return self._accounts().log_out(server_name(server))

    def logins(self) -> Mapping[str, str]:
        """Return where we are logged in, and as whom: server to user name, which is empty for an identity token."""
        return self._accounts().list()

    def credentials(self, server: str = "") -> Credentials | None:
        """Return what is kept for *server*, secrets included; None if nothing is."""
        return self._accounts().find(server_name(server))

    def _accounts(self) -> Accounts:
        from img_core.api._credentials import Accounts

        return Accounts(self.plugins, self.config.environment, self._notice)


def _hosts(insecure: bool) -> tuple[str, ...]:
    return ("*",) if insecure else ()


def refuse_id(name: str) -> None:
    """Raise UsageError if *name* is the whole id of an image: it does not tell where to push to."""
    from img_core.spec.errors import UsageError

    if full_id(name):
        raise UsageError(f"`{name}` is an id, which names no repository", hint=f"say where to: `img push {name} NAME`")
