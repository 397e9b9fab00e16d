"""The state directory as one thing: opening, recovery, and what makes results durable."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Final, Self

from img_core.files import fs, locks, space
from img_core.files.boots import name_of_boot
from img_core.files.leases import EVERYTHING, Leases, leased
from img_core.files.shape import check_shape
from img_core.files.sqlite import SUSPECT, DamagedError, Purpose
from img_core.images.digests import ALGORITHMS
from img_core.spec.errors import ImgError, IntegrityError, NotFoundError, StateError
from img_core.store import durability, repair
from img_core.store.blobs import Blobs
from img_core.store.database import CACHE_MOUNT, LEASED, StateDatabase
from img_core.store.images import Images
from img_core.store.records import Records
from img_core.store.repair import DATABASE
from img_core.store.snapshots import Snapshots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from img_core.spec.values import Descriptor, Digest

__all__ = ["Store"]

_DIRECTORIES: Final = ("blobs", *(f"blobs/{algorithm}" for algorithm in ALGORITHMS), "names", "run", "snapshots")
_FILES: Final = ("locks", DATABASE, *(f"{DATABASE}-{part}" for part in ("wal", "shm", "journal")))


class Store:
    """One state directory, opened by one process.

    *writable* stores may keep things and own a run directory; others only read. *cleaning* ones, which are writable, must be able to
    remove things from a full disk: see `img_core.files.space`. *backend* and *mapping* name the snapshotter and the id
    mapping whose snapshots are used; `use` changes the former. *notice* gets one-line messages for people.

    What exporters, importers and those who move images use of it is in part that of `Blobs`.
    """

    def __init__(
        self,
        state: str,
        *,
        writable: bool = True,
        cleaning: bool = False,
        backend: str = "",
        mapping: str = "none",
        notice: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.state = os.path.abspath(state)
        check_shape(self.state, _DIRECTORIES, _is_file)
        if writable:
            with _refusals(self.state), fs.disk_errors(self.state):
                locks.ensure_directory(self.state)
        if cleaning:
            space.give_up_reserve(self.state)
        self._cleaning = cleaning
        self._notice = notice
        self.run: locks.RunDirectory | None = None
        if writable:
            self._boot, self.run = self._begin(mapping)
        else:
            self._boot = name_of_boot(self.state)
        self.database = self._open_database(Purpose.CLEAN if cleaning else Purpose.WRITE if writable else Purpose.READ)
        self.leases = Leases(self.database, self.run, LEASED)
        self.blobs = blobs = Blobs(self.state, self.database, self.run, self.leases)
        self.put, self.open, self.read, self.chunks = blobs.put, blobs.open, blobs.read, blobs.chunks
        self.has, self.resume, self.origins = blobs.has, blobs.resume, blobs.origins
        self.remember_origins = blobs.remember_origins
        self.images = Images(self.state, self.database, self.blobs)
        with nullcontext() if writable else suppress(ImgError):  # who only reads goes on where nobody can write
            durability.recover(self.database, self.blobs, self.images, notice)
        self.mapping = mapping
        self.use(backend)
        if writable and not cleaning:
            self._keep_reserve()

    def use(self, backend: str) -> None:
        """Use the snapshots and step records of the snapshotter called *backend*."""
        self.snapshots = Snapshots(self.state, self.database, backend, self.mapping, self.leases)
        self.records = Records(self.database, backend, self.mapping)

    def _begin(self, mapping: str) -> tuple[str, locks.RunDirectory]:
        """Clean up after dead processes; return the name of this boot, and a directory for what we make."""
        with _refusals(self.state), fs.disk_errors(self.state):
            if mapping != "none":  # only there can files of other ids be removed
                locks.sweep(self.state)
            with locks.lock(self.state, "boot"):
                boot = name_of_boot(self.state, note=True)
                return boot, locks.RunDirectory(self.state, boot)

    def _open_database(self, purpose: Purpose) -> StateDatabase:
        path = os.path.join(self.state, DATABASE)

        def opened() -> StateDatabase:
            return StateDatabase(path, self._boot, purpose=purpose, notice=self._notice)

        if repair.is_lost(self.state):
            damage: StateError | None = None
        elif purpose is Purpose.READ and not os.path.exists(path):
            return StateDatabase(":memory:", self._boot)
        elif not os.path.exists(path + SUSPECT):
            try:
                return opened()
            except DamagedError as err:
                damage = err
        else:
            damage = None
        if damage and not os.access(path, os.W_OK):
            raise damage
        return repair.repaired(self.state, self._boot, opened, self._notice)

    def _keep_reserve(self) -> None:
        try:
            size = os.stat(self.database.path).st_size
        except OSError:
            size = 0
        space.keep_reserve(self.state, size)

    # ------------------------------------------------------------------ what exporters and commands use (spec.ImageStore)

    def ingest(
        self, chunks: Iterable[bytes], media_type: str, *, digest: Digest | None = None, size: int | None = None
    ) -> Descriptor:
        """Keep a blob as it arrives. Raises IntegrityError if *digest* or *size* is given and differs; then nothing is kept."""
        with self.blobs.writer(media_type, like=digest or "") as writer:
            for chunk in chunks:
                writer.write(chunk)
                if size is not None and writer.size > size:
                    break
            return writer.commit(digest=digest, size=size)

    def document(self, digest: Digest) -> bytes | None:
        """Return a small document, verified, or None if it is not kept here or damaged."""
        try:
            return self.blobs.read(digest)
        except (NotFoundError, IntegrityError):
            return None

    def seen(self, reference: str) -> bool:
        """Tell whether something is known that the image *reference* meant at some time."""
        return self.images.find(reference) is not None or self.records.has_pin(reference)

    def tag(self, name: str, descriptor: Descriptor) -> None:
        """Let *name* mean *descriptor*."""
        current = self.images.find(name)
        if current and (current.name, current.descriptor.digest) == (name, descriptor.digest):
            return
        with fs.disk_errors(self.state):
            self.images.tag(name, descriptor)

    def keep(self, descriptor: Descriptor) -> None:
        """Keep the image *descriptor* without a name, unless it has one."""
        with fs.disk_errors(self.state):
            self.images.keep(descriptor)

    def lock(self, name: str, check: Callable[[], None] = lambda: None) -> AbstractContextManager[None]:
        """Hold the lock *name* against other processes and threads; see `locks.lock`."""
        return locks.lock(self.state, name, check=check)

    def use_cache_mount(self, name: str, description: str) -> None:
        """Keep the cache mount *name* (a directory below ``cache-mounts``, perhaps not made yet) from being collected; it is used now."""
        now = time.time()
        with self.database.transaction() as cursor:
            cursor.execute(
                "INSERT INTO cache_mount (name, description, created, used) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET used = excluded.used, description = excluded.description",
                (name, description, now, now),
            )
            self.leases.add(cursor, CACHE_MOUNT, name)

    def others_use_cache_mount(self, name: str) -> bool:
        """Tell whether another process that runs may use the cache mount *name*."""
        with self.database.transaction() as cursor:
            held = leased(cursor, self.state, without=self.run.path if self.run else "")
        return bool(held[EVERYTHING]) or name in held[CACHE_MOUNT]

    def close(self) -> None:
        """Let the work last if that is quick, give the leases back, close the database and remove the run directory."""
        try:
            if self.run is not None:
                with suppress(ImgError, OSError):  # it is tried again by the next command
                    durability.settle(self.state, self.database)
            with suppress(ImgError):  # rows of ours that stay are without meaning once we are gone
                self.leases.close()
        finally:
            self.database.close()
            if self.run is not None:
                self.run.close()
            if self._cleaning:
                self._keep_reserve()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _is_file(name: str) -> bool:
    return name in _FILES or name.startswith(f"{DATABASE}-leases-")


@contextmanager
def _refusals(state: str) -> Iterator[None]:
    """Turn the system's refusal to use the state directory into one line."""
    try:
        yield
    except OSError as err:
        from img_core.files.refusals import why_refused

        raise StateError(
            f"state directory `{fs.show(state)}` cannot be used: {why_refused(err, state)}",
            hint="choose another one with `-s DIR`",
        ) from err
