"""Content-addressed blobs: ``blobs/<algorithm>/<hex>``, verified while they are written and while they are read."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Self

from img_core.files import fs
from img_core.files.locks import ensure_directory
from img_core.files.partial import DIRECTORY, PartialBlob
from img_core.images import oci
from img_core.images.digests import Hasher, blob_path, verified
from img_core.linux.spans import span
from img_core.spec.errors import ImgError, IntegrityError, NotFoundError
from img_core.spec.values import Descriptor, DiffId, Digest
from img_core.store.database import BLOB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from img_core.files.leases import Leases
    from img_core.files.locks import RunDirectory
    from img_core.store.database import StateDatabase

__all__ = ["BlobWriter", "Blobs"]


class Blobs:
    """The blobs of one state directory. A blob exists when it has a row; a file without a row is garbage that may be replaced."""

    def __init__(self, state: str, database: StateDatabase, run: RunDirectory | None, leases: Leases) -> None:
        self._leases = leases
        self._lent: dict[Digest, str] = {}
        self._state = state
        self._partial = os.path.join(state, DIRECTORY)
        self._database = database
        self._run = run

    def path(self, digest: Digest) -> str:
        """Return where *digest* is, or would be, kept. Raises IntegrityError for what is no digest that we can verify."""
        return os.path.join(self._state, blob_path(digest))

    def has(self, digest: Digest) -> bool:
        """Tell whether *digest* is kept; if so, it stays as long as this process lives."""
        return self.size(digest) is not None

    def size(self, digest: Digest) -> int | None:
        """Return the size in bytes of *digest*, or None if it is not kept; if it is, it stays as long as this process lives."""
        row = self._database.one("SELECT size FROM blob WHERE digest = ?", (digest,))
        if row is None or not self._leases.take(BLOB, digest):
            return None
        try:
            actual = os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            return None
        return actual if actual == row["size"] else None

    def media_type(self, digest: Digest) -> str:
        """Return the media type that *digest* was stored with. Raises NotFoundError."""
        row = self._database.one("SELECT media_type FROM blob WHERE digest = ?", (digest,))
        if row is None:
            raise NotFoundError(f"blob {digest}: not found")
        return str(row["media_type"])

    def writer(self, media_type: str, *, like: str = "") -> BlobWriter:
        """Start writing a blob whose digest is not known yet; it will be of the algorithm of *like*."""
        with fs.disk_errors(self._state):
            return BlobWriter(self, self.new_file(), media_type, like)

    def put(
        self, data: bytes, media_type: str, *, digest: Digest | None = None, references: Iterable[Digest] = ()
    ) -> Descriptor:
        """Keep a small document and which blobs it names. Raises IntegrityError if *digest* is given and differs."""
        with self.writer(media_type, like=digest or "") as writer:
            writer.write(data)
            return writer.commit(digest=digest, references=references)

    def ingest(self, descriptor: Descriptor, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass *chunks* on while writing them; keep the blob if size and digest agree when they end, else raise IntegrityError."""
        with self.writer(descriptor.media_type, like=descriptor.digest) as writer:
            for chunk in chunks:
                writer.write(chunk)
                if writer.size > descriptor.size:
                    break
                yield chunk
            writer.commit(digest=descriptor.digest, size=descriptor.size)

    def resume(self, descriptor: Descriptor, fetch: Callable[[int], Iterable[bytes]]) -> Iterator[bytes]:
        """Like `ingest`, going on where an earlier transfer was cut. *fetch* gives the bytes from an offset on.

        What arrived stays for the next time when *fetch* fails or nobody wants more, not when it is wrong. Hold the lock of the blob.
        """
        name = os.path.basename(self.path(descriptor.digest))
        with fs.disk_errors(self._partial):
            partial = PartialBlob.open(self._partial, name, limit=descriptor.size) if self._run else None
        if partial is None:
            yield from self.ingest(descriptor, fetch(0))
            return
        with BlobWriter(self, partial, descriptor.media_type, descriptor.digest) as writer:
            try:
                for chunk in partial.chunks():
                    writer.note(chunk)
                    yield chunk
                for chunk in fetch(partial.size) if partial.size < descriptor.size else ():
                    writer.write(chunk)
                    if writer.size > descriptor.size:
                        break
                    yield chunk
            except BaseException as err:
                if not isinstance(err, IntegrityError):
                    partial.keep()
                raise
            writer.commit(digest=descriptor.digest, size=descriptor.size)

    def publish(
        self, temporary: fs.AtomicFile | PartialBlob, descriptor: Descriptor, references: Iterable[Digest] = ()
    ) -> None:
        """Give *temporary* its final name and a row."""
        path = self.path(descriptor.digest)
        ensure_directory(os.path.dirname(path))
        now = time.time()
        ours = False

        def take_back() -> None:
            if ours:
                os.unlink(path)

        with self._database.transaction(undo=take_back) as cursor:
            # In the transaction: a collector takes a file without a row for garbage.
            known = cursor.execute("SELECT 1 FROM blob WHERE digest = ?", (descriptor.digest,)).fetchone()
            temporary.commit(path)
            ours = known is None
            cursor.execute(
                "INSERT INTO blob (digest, size, media_type, created, used, boot) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (digest) DO UPDATE SET size = excluded.size, boot = excluded.boot, synced = 0",
                (descriptor.digest, descriptor.size, descriptor.media_type, now, now, self._database.boot),
            )
            self._leases.add(cursor, BLOB, descriptor.digest)
            cursor.executemany(
                "INSERT OR IGNORE INTO blob_reference (parent, child) SELECT ?, digest FROM blob WHERE digest = ?",
                [(descriptor.digest, child) for child in references],
            )

    def lend(self, temporary: fs.AtomicFile, digest: Digest) -> None:
        """Let `open` find *temporary* under *digest* as long as this process lives; it is not kept."""
        assert self._run is not None
        path = self._run.new_path("blob")
        temporary.commit(path)
        self._lent[digest] = path

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob for reading; its content is not verified. Raises NotFoundError."""
        kept = self.has(digest)
        if not kept and digest not in self._lent:
            raise NotFoundError(f"blob {digest}: not found")
        try:
            return fs.ReadFile(self.path(digest) if kept else self._lent[digest])
        except FileNotFoundError:  # collected just now, by somebody who could not know that a mere reader wants it
            raise NotFoundError(f"blob {digest}: not found") from None

    def read(self, digest: Digest) -> bytes:
        """Return a document of at most 4 MiB, verified. Raises NotFoundError, IntegrityError."""
        with self.open(digest) as file:
            data = file.read(oci.DOCUMENT_LIMIT + 1)
        if len(data) > oci.DOCUMENT_LIMIT:
            raise IntegrityError(f"document {digest} is larger than {oci.DOCUMENT_LIMIT} bytes")
        if oci.digest(data, digest) != digest:
            raise self._discarded(digest)
        return data

    def chunks(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Give a blob's bytes; raises IntegrityError at the end if they are not what the digest says."""
        with self.open(descriptor.digest) as file:
            try:
                yield from verified(file, descriptor.digest)
            except IntegrityError:
                raise self._discarded(descriptor.digest) from None

    def verify(self, descriptor: Descriptor) -> None:
        """Read a whole blob. Raises IntegrityError if it is not what the digest says."""
        for _chunk in self.chunks(descriptor):
            pass

    def _discarded(self, digest: Digest) -> IntegrityError:
        """Remove the file of a blob that changed on disk, so that it can be fetched or made again; return the error that says so."""
        if self._run is not None:
            with suppress(OSError):
                fs.unlink(self.path(digest))
        return IntegrityError(f"blob {digest} is damaged on disk", hint="pull or build the image again")

    def remember_layer(self, digest: Digest, diff_id: DiffId) -> None:
        """Record that the blob *digest* unpacks to *diff_id*."""
        if not self.layer_diff_id(digest):
            with self._database.transaction() as cursor:
                cursor.execute("INSERT OR IGNORE INTO layer (diff_id, digest) VALUES (?, ?)", (diff_id, digest))

    def layer_diff_id(self, digest: Digest) -> DiffId | None:
        """Return the diff id of the layer blob *digest*, if known."""
        row = self._database.one("SELECT diff_id FROM layer WHERE digest = ?", (digest,))
        return DiffId(row["diff_id"]) if row else None

    def find_layer(self, diff_id: DiffId, compression: str | None = None) -> Descriptor | None:
        """Return a kept blob that unpacks to *diff_id*, in that *compression* if given (see `LayerForm`); the one written first."""
        from img_core.images.layer_types import layer_codec  # not for `img ls`

        rows = self._database.query(
            "SELECT blob.digest, blob.size, blob.media_type FROM layer JOIN blob USING (digest)"
            " WHERE layer.diff_id = ? ORDER BY blob.created, blob.digest",
            (diff_id,),
        )
        for row in rows:
            found = Descriptor(row["media_type"], Digest(row["digest"]), row["size"])
            if compression in (None, layer_codec(found)) and self.has(found.digest):
                return found
        return None

    def remember_origins(self, digests: Iterable[Digest], repository: str) -> None:
        """Record that *repository* (``domain/path``) has the blobs *digests*, kept here or not."""
        pairs = [(digest, repository) for digest in digests]
        known = {digest for digest, _ in pairs if repository in self.origins(digest)}
        if new := [pair for pair in pairs if pair[0] not in known]:  # mostly nothing: no need to write
            with self._database.transaction() as cursor:
                cursor.executemany("INSERT OR IGNORE INTO blob_origin (digest, repository) VALUES (?, ?)", new)

    def origins(self, digest: Digest) -> list[str]:
        """Return the repositories that are known to have *digest*."""
        rows = self._database.query(
            "SELECT repository FROM blob_origin WHERE digest = ? ORDER BY repository", (digest,)
        )
        return [row["repository"] for row in rows]

    def new_file(self) -> fs.AtomicFile:
        """Return a temporary file that `publish` can turn into a blob."""
        if self._run is None:
            raise ImgError("the state directory is not writable", hint="choose another one with `-s`")
        return fs.AtomicFile(self._run.path)


class BlobWriter:
    """Writes one blob and hashes it on the way; nothing is left unless `commit` succeeds."""

    def __init__(self, blobs: Blobs, file: fs.AtomicFile | PartialBlob, media_type: str, like: str) -> None:
        self._blobs = blobs
        self._media_type = media_type
        self._file = file
        self._hash = Hasher(like)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.size

    def write(self, data: bytes | memoryview) -> None:
        """Append *data*."""
        with span("write"), fs.disk_errors(self._file.path):
            self._file.write(data)
        self._hash.update(data)

    def note(self, data: bytes) -> None:
        """Take *data* as what the file holds already."""
        self._hash.update(data)

    def commit(
        self, *, digest: Digest | None = None, size: int | None = None, references: Iterable[Digest] = ()
    ) -> Descriptor:
        """Keep the blob. Raises IntegrityError if *digest* or *size* is given and differs."""
        found = Descriptor(self._media_type, self._hash.digest, self.size)
        check(found, digest, size)
        if self._blobs.has(found.digest):
            self._file.abort()
        else:
            with fs.disk_errors(self._blobs.path(found.digest)):
                self._blobs.publish(self._file, found, references)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._file.abort()


def check(found: Descriptor, digest: Digest | None, size: int | None) -> None:
    """Raise IntegrityError unless *found* has the expected *digest* and *size* in bytes, as far as they are given."""
    name = digest or found.digest
    if size is not None and found.size > size:
        raise IntegrityError(f"blob {name} is longer than the {size} bytes that were declared")
    if size is not None and found.size < size:
        raise IntegrityError(f"blob {name} ended after {found.size} of {size} bytes")
    if digest is not None and found.digest != digest:
        raise IntegrityError(f"blob {digest} does not match its digest: got {found.digest}")
