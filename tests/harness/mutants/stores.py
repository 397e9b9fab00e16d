"""Credential stores, registries, importers, secret providers and sources with one thing wrong."""

# ruff: noqa: E501 - one mutant, one line
from __future__ import annotations

import contextlib
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.directory_registry import DirectoryRegistry, Kept
from harness.mutants import Mutant, mutant
from img_core.files import fs
from img_core.images import oci
from img_core.spec.errors import Canceled, ImgError, NotFoundError
from img_core.spec.graph import SourceOp
from img_core.spec.importer import LoadedImage
from img_core.spec.registry import Fetched, Uploaded
from img_core.spec.secret import SECRET_LIMIT
from img_core.spec.source import PinnedTree, TreeSource
from img_core.spec.values import Credentials, Descriptor
from img_core.testing.contracts.credentials import CredentialStoreContract
from img_core.testing.contracts.importer import ImporterContract
from img_core.testing.contracts.registry import RegistryContract
from img_core.testing.contracts.secret import SecretProviderContract
from img_core.testing.contracts.source import TreeSourceContract
from img_core.testing.images import SmallImage, write_layout
from img_core.testing.processes import LARGE
from img_credentials_dockerconfig._store import DockerConfigStore
from img_importer_archive._importers import LayoutImporter
from img_secret_file._file import FileSecret

__all__ = ["CREDENTIALS", "IMPORTERS", "REGISTRIES", "SECRETS", "SOURCES"]

Store = DockerConfigStore


def _plain_store(self: Any, server: str, credentials: Credentials) -> None:
    """Read, wait, write: without a lock."""
    path = Path(self._home, "plain.json")
    data = json.loads(path.read_text()) if path.exists() else {}
    threading.Event().wait(0.01)
    data[server] = credentials.username
    path.touch(0o600)
    path.write_text(json.dumps(data))


def _open_store(self: Any, server: str, credentials: Credentials) -> None:
    Store.store(self, server, credentials)
    for path in Path(self._home).rglob("*.json"):
        path.chmod(0o644)


def _in_place(self: Any, server: str, credentials: Credentials) -> None:
    """Empty the file before it is written."""
    for path in Path(self._home).rglob("*.json"):
        path.write_text("{}")
    Store.store(self, server, credentials)


def _raw_errors(self: Any, server: str, credentials: Credentials) -> None:
    try:
        Store.store(self, server, credentials)
    except ImgError as err:
        raise ImgError(f"{err.message}: {credentials}\n{credentials.password}") from err


def _home(self: Any, environment: Mapping[str, str], options: Any = None) -> None:
    Store.__init__(self, environment)
    self._home = environment["HOME"]


def _suffix(self: Any, server: str, repository: str = "") -> Credentials | None:
    for known in Store.list(self):
        if server.endswith(known.split(":")[0]) or known.endswith(server) or server.startswith(known):
            return Store.get(self, known, repository)
    return None


def store(claim: str, **changes: Any) -> Mutant:
    return mutant(CredentialStoreContract, Store, claim, __init__=_home, **changes)


CREDENTIALS = {
    "remembers in memory": store("test_credentials_come_back", store=lambda self, s, c: setattr(self, "kept", (s, c)), get=lambda self, s, r="": self.__dict__.get("kept", ("", None))[1]),
    "keeps the first login": store("test_later_login", store=lambda self, s, c: None if Store.get(self, s) else Store.store(self, s, c)),
    "loses identity tokens": store("test_identity_token", store=lambda self, s, c: Store.store(self, s, Credentials(c.username, c.password))),
    "erases everything": store("test_erased_server", erase=lambda self, s: sum(Store.erase(self, name) for name in Store.list(self)) > 0),
    "never says that nothing was there": store("test_new_store or test_erased_server", erase=lambda self, s: [Store.erase(self, s)] != []),
    "compares the ends of names": store("test_password_is_for", get=_suffix),
    "calls Docker Hub by its address": store("test_docker_hub", list=lambda self: {n.replace("docker.io", "https://index.docker.io/v1/"): u for n, u in Store.list(self).items()}),
    "shows passwords": store("test_secret_is_never", list=lambda self: {n: f"{u}:{(Store.get(self, n) or Credentials()).password}" for n, u in Store.list(self).items()}),
    "writes files for everybody": store("test_files_are_readable", store=_open_store),
    "has no lock": store("test_logins_at_the_same", store=_plain_store, list=lambda self: json.loads(Path(self._home, "plain.json").read_text())),
    "empties the file first": store("test_a_failing_disk or test_a_kill", store=_in_place),
    "tells the password when it fails": store("test_a_failing_disk", store=_raw_errors),
    "cuts passwords": store("test_credentials_come_back", store=lambda self, s, c: Store.store(self, s, Credentials(c.username, c.password.encode("ascii", "ignore").decode()))),
}  # fmt: skip


# ---- registries


class Directory(RegistryContract):
    @pytest.fixture
    def domain(self) -> str:
        return f"{uuid.uuid4()}.example"


def _cut(self: Any, repository: str, descriptor: Descriptor, *, start: int = 0, verify: bool = True) -> Iterator[bytes]:
    for chunk in DirectoryRegistry.fetch_blob(self, repository, descriptor, start=start, verify=verify):
        yield chunk[:-1]


def _from_the_start(
    self: Any, repository: str, descriptor: Descriptor, *, start: int = 0, verify: bool = True
) -> Iterator[bytes]:
    return DirectoryRegistry.fetch_blob(self, repository, descriptor)


def _any_size(
    self: Any, repository: str, descriptor: Descriptor, *, start: int = 0, verify: bool = True
) -> Iterator[bytes]:
    yield self._find(repository, descriptor.digest)[0][start:]


def _mixed_up(
    self: Any, repository: str, descriptor: Descriptor, read: Any, *, mount_from: str | None = None
) -> Uploaded:
    """One buffer for all threads."""
    self.buffer = b"".join(read(0))
    threading.Event().wait(0.005)
    self.kept[repository, descriptor.digest] = self.buffer, descriptor.media_type
    return Uploaded.SENT


def _error(kind: type[Exception]) -> Callable[..., Any]:
    def find(self: Any, repository: str, reference: str) -> Any:
        try:
            return self.kept[repository, reference]
        except KeyError:
            raise kind("nothing") from None

    return find


def registry(claim: str, **changes: Any) -> Mutant:
    return mutant(Directory, DirectoryRegistry, claim, **changes)


def _always_sends(
    self: Any, repository: str, descriptor: Descriptor, read: Any, *, mount_from: str | None = None
) -> Uploaded:
    self.kept[repository, descriptor.digest] = b"".join(read(0)), descriptor.media_type
    return Uploaded.SENT


def _keeps_a_part(
    self: Any, repository: str, descriptor: Descriptor, read: Any, *, mount_from: str | None = None
) -> Uploaded:
    """Take what came before an upload was stopped for all of it."""
    content = b""
    try:
        for chunk in read(0):
            content += chunk
    finally:
        self.kept[repository, descriptor.digest] = content, descriptor.media_type
    return Uploaded.SENT


def _empty_mount(
    self: Any, repository: str, descriptor: Descriptor, read: Any, *, mount_from: str | None = None
) -> Uploaded:
    if mount_from:
        self.kept[repository, descriptor.digest] = b"", descriptor.media_type
        return Uploaded.MOUNTED
    return DirectoryRegistry.upload(self, repository, descriptor, read)


def _own(self: Any, context: Any, options: Any = None) -> None:
    """Know nothing of what other processes did."""
    DirectoryRegistry.__init__(self, context, options)
    type(self).kept = _KEPT.setdefault(os.getpid(), Kept())


_KEPT: dict[int, Kept] = {}


def _in_one_piece(
    self: Any, repository: str, descriptor: Descriptor, *, start: int = 0, verify: bool = True
) -> Iterator[bytes]:
    yield b"".join(DirectoryRegistry.fetch_blob(self, repository, descriptor, start=start))


def _sends_in_one_piece(
    self: Any, repository: str, descriptor: Descriptor, read: Any, *, mount_from: str | None = None
) -> Uploaded:
    content = b"".join(read(0))
    return DirectoryRegistry.upload(self, repository, descriptor, lambda _offset: [content], mount_from=mount_from)


def _writes_to_the_name(
    self: Any, repository: str, descriptor: Descriptor, read: Any, *, mount_from: str | None = None
) -> Uploaded:
    path = self.kept.path((repository, descriptor.digest))
    if path.exists():
        return Uploaded.EXISTED
    with path.open("wb", buffering=0) as file:
        for chunk in read(0):
            file.write(chunk)
    return Uploaded.SENT


def _closes_once(self: Any) -> None:
    if self.__dict__.get("closed"):
        raise RuntimeError("closed already")
    self.closed = True


REGISTRIES = {
    "drops the last byte": registry("test_it_serves_many or test_a_blob_of_a_neighbour", fetch_blob=_cut),
    "begins at the start again": registry("test_a_blob_is_given_from", fetch_blob=_from_the_start),
    "takes any size": registry("test_a_blob_of_another_size", fetch_blob=_any_size),
    "mixes up threads": registry("test_it_serves_many", upload=_mixed_up),
    "sends what is there": registry("test_a_blob_is_sent_once", upload=_always_sends),
    "keeps a part of what was canceled": registry("test_an_upload_that_is_canceled", upload=_keeps_a_part),
    "says that it mounted": registry("test_a_blob_of_a_neighbour", upload=_empty_mount),
    "has a key error": registry("test_what_is_not_there", _find=_error(KeyError)),
    "calls what is missing a failure": registry("test_what_is_not_there", _find=_error(ImgError)),
    "keeps tags only": registry("test_what_was_put", put_document=lambda self, r, ref, c, m: (self.kept.__setitem__((r, ref), (c, m)), oci.digest(c))[1]),
    "writes documents anew": registry("test_what_was_put", fetch_document=lambda self, r, ref: Fetched(json.dumps(json.loads(self._find(r, ref)[0]), indent=1).encode(), self._find(r, ref)[1], oci.digest(self._find(r, ref)[0]))),
    "answers with another digest": registry("test_what_was_put", resolve=lambda self, r, ref: oci.digest(b"other")),
    "is closed once": registry("test_ping_and_closing", close=_closes_once),
    "keeps what it has in its process": registry("test_two_processes", __init__=_own),
    "fetches blobs in one piece": registry("test_a_large_blob", fetch_blob=_in_one_piece),
    "sends blobs in one piece": registry("test_a_large_blob", upload=_sends_in_one_piece),
    "takes what was killed for a blob": registry("test_an_upload_that_was_killed", upload=_writes_to_the_name),
}  # fmt: skip


# ---- importers


class Layout(ImporterContract):
    def write(self, image: SmallImage, directory: Path) -> Path:
        write_layout(directory, {"1": image})
        return directory


def _trusting(self: Any, source: Any, store: Any) -> list[LoadedImage]:
    """Read what the index names, and verify nothing."""
    index = json.loads(Path(source, "index.json").read_bytes())
    loaded = []
    for entry in index["manifests"]:
        for path in Path(source, "blobs/sha256").iterdir():
            store.put(path.read_bytes(), "")
        loaded.append(LoadedImage((), Descriptor(entry["mediaType"], entry["digest"], entry["size"])))
    return loaded


def importer(claim: str, **changes: Any) -> Mutant:
    return mutant(Layout, LayoutImporter, claim, **changes)


def _raising(error: Exception) -> Callable[..., Any]:
    def load(self: Any, source: Any, store: Any) -> list[LoadedImage]:
        try:
            return LayoutImporter.load(self, source, store)
        except ImgError:
            raise error from None

    return load


def _drops_a_blob(self: Any, source: Any, store: Any) -> list[LoadedImage]:
    loaded = LayoutImporter.load(self, source, store)
    max((store.path("sha256:" + name) for name in store.blobs()), key=lambda path: path.stat().st_size).unlink()
    return loaded


def _swallows(self: Any, source: Any, store: Any) -> list[LoadedImage]:
    try:
        return LayoutImporter.load(self, source, store)
    except ImgError:
        return []


def _whole_layers(self: Any, source: Any, store: Any) -> list[LoadedImage]:
    class Whole:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def ingest(self, chunks: Any, media_type: str, **more: Any) -> Descriptor:
            return store.ingest([b"".join(chunks)], media_type, **more)

    return LayoutImporter.load(self, source, Whole())


def _marks_what_it_read(self: Any, source: Any, store: Any) -> list[LoadedImage]:
    mark = Path(source, "loading")
    mark.touch()
    try:
        return LayoutImporter.load(self, source, store)
    finally:
        mark.unlink()


def _one_at_a_time(self: Any, source: Any, store: Any) -> list[LoadedImage]:
    """Refuse what another process loads."""
    lock = Path(source).parent / "lock"
    try:
        lock.mkdir()
    except FileExistsError:
        raise ImgError("somebody loads it") from None
    threading.Event().wait(0.2)
    lock.rmdir()
    return LayoutImporter.load(self, source, store)


IMPORTERS = {
    "has whole layers in memory": importer("test_a_large_layer", load=_whole_layers),
    "writes into what it reads": importer("test_a_load_that_was_killed", load=_marks_what_it_read),
    "loads for one process only": importer("test_two_processes", load=_one_at_a_time),
    "hides that the disk is full": importer("test_what_stops", load=_swallows),
    "calls a cancellation a failure": importer("test_what_stops", load=_raising(ImgError("failed"))),
    "claims everything": importer("test_it_claims", claims=classmethod(lambda cls, start, directory="": True)),
    "claims scripts": importer("test_it_claims", claims=classmethod(lambda cls, start, directory="": LayoutImporter.claims(start, directory) or start[:1] == b"#")),
    "claims nothing": importer("test_it_claims", claims=classmethod(lambda cls, start, directory="": False)),
    "claims empty streams": importer("test_it_claims", claims=classmethod(lambda cls, start, directory="": LayoutImporter.claims(start, directory) or not start)),
    "loads nothing": importer("test_the_image_arrives", load=lambda self, source, store: []),
    "loads it twice": importer("test_the_image_arrives", load=lambda self, source, store: LayoutImporter.load(self, source, store) * 2),
    "drops a blob": importer("test_the_image_arrives", load=_drops_a_blob),
    "trusts what it reads": importer("test_damage or test_a_file_that_ends", load=_trusting),
    "speaks in many lines": importer("test_a_file_that_ends", load=_raising(ImgError("it\nis\nbroken"))),
    "has a bug": importer("test_a_file_that_ends", load=_raising(KeyError("digest"))),
    "swallows errors": importer("test_a_file_that_ends", load=_swallows),
}  # fmt: skip


# ---- secret providers


class OfFile(SecretProviderContract):
    def put(self, content: bytes, environment: dict[str, str]) -> dict[str, str]:
        Path("token.txt").write_bytes(content)
        return {"src": "token.txt"}


def _read(self: Any) -> bytes:
    return FileSecret.get(self)


def _early(self: Any, environment: Mapping[str, str], options: Any = None) -> None:
    FileSecret.__init__(self, environment, options)
    self.kept = _read(self) if os.path.exists(self.options["src"]) else None


def _once(self: Any) -> bytes:
    """The second step gets nothing."""
    given = b"" if self.__dict__.get("given") else _read(self)
    self.given = True
    return given


def _shared_buffer(self: Any) -> bytes:
    self.buffer = b""
    for byte in _read(self):
        self.buffer += bytes([byte])
        threading.Event().wait(0.0005)
    return bytes(self.buffer)


def _consumes(self: Any) -> None:
    FileSecret.check(self)
    os.rename(self.options["src"], self.options["src"] + ".seen")
    os.link(self.options["src"] + ".seen", self.options["src"])


def _unless_there(error: BaseException) -> Callable[..., Any]:
    def ask(self: Any) -> Any:
        if os.path.exists(self.options["src"]):
            return _read(self)
        raise error

    return ask


def secret(claim: str, **changes: Any) -> Mutant:
    return mutant(OfFile, FileSecret, claim, **changes)


SECRETS = {
    "strips white space": secret("test_a_secret_is_given", get=lambda self: _read(self).strip()),
    "takes it for text": secret("test_a_secret_is_given", get=lambda self: _read(self).decode("utf-8", "ignore").encode()),
    "ends at a zero": secret("test_a_secret_is_given", get=lambda self: _read(self).partition(b"\0")[0]),
    "gives it once": secret("test_a_secret_is_given", get=_once),
    "cuts it": secret("test_a_secret_of_the_limit", get=lambda self: _read(self)[:SECRET_LIMIT], check=lambda self: None),
    "reads it when it is made": secret("test_it_is_read_when", __init__=_early, get=lambda self: self.kept),
    "mixes up threads": secret("test_steps_ask", get=_shared_buffer),
    "calls what is missing empty": secret("test_what_is_not_there", get=_unless_there(ImgError("x")), check=lambda self: None),
    "has an error of the system": secret("test_what_is_not_there", get=_unless_there(FileNotFoundError(2, "x"))),
    "speaks in many lines": secret("test_what_is_not_there", check=_unless_there(ImgError("it\nis\ngone"))),
    "keeps relative paths": secret("test_complete_options_count", complete=classmethod(lambda cls, name, options: {"src": options.get("src") or name})),
    "completes again and again": secret("test_complete_options_are", complete=classmethod(lambda cls, name, options: {"src": f"{FileSecret.complete(name, options)['src']}.1"})),
    "needs the id": secret("test_complete_options_are", complete=classmethod(lambda cls, name, options: {"src": os.path.abspath(name)})),
    "changes what was typed": secret("test_complete_options_are", complete=classmethod(lambda cls, name, options: (options.update(FileSecret.complete(name, options)), options)[1])),
    "leaves traces": secret("test_looking_changes", check=_consumes),
    "shows it": secret("test_the_secret_is_never", __repr__=lambda self: f"<{_read(self)!r}>"),
}  # fmt: skip


# ---- sources


class Words(TreeSource):
    """A tree with one file per word of the reference, and one link."""

    name = "words"

    def pin(self, op: SourceOp, platform: Any) -> PinnedTree:
        if not op.reference:
            raise NotFoundError("no words")
        return PinnedTree(f"{self.name}:{oci.digest(op.reference.encode())}", details={"words": op.reference.split()})

    def fetch(self, pinned: PinnedTree, directory: str) -> None:
        for number, word in enumerate(pinned.details["words"]):
            self.context.check()
            fs.replace_file(os.path.join(directory, str(number)), word.encode(), 0o644)
            if word == "large":
                os.truncate(os.path.join(directory, str(number)), LARGE)
        os.symlink("0", os.path.join(directory, "link"))


class WordSuite(TreeSourceContract):
    @pytest.fixture
    def op(self) -> SourceOp:
        return SourceOp("words", "a few words")

    @pytest.fixture
    def other_op(self) -> SourceOp:
        return SourceOp("words", "and others")

    @pytest.fixture
    def large_op(self) -> SourceOp:
        return SourceOp("words", "something large")

    @pytest.fixture
    def missing_op(self) -> SourceOp:
        return SourceOp("words", "")


def _identity(make: Callable[[Any, SourceOp], str]) -> Callable[..., PinnedTree]:
    return lambda self, op, platform: PinnedTree(make(self, op), details=Words.pin(self, op, platform).details)


def _shared(self: Any, pinned: PinnedTree, directory: str) -> None:
    """One place for the work of all threads."""
    type(self).place = directory
    threading.Event().wait(0.01)
    Words.fetch(self, pinned, type(self).place)


def _open_files(self: Any, pinned: PinnedTree, directory: str) -> None:
    os.mkdir(path := os.path.join(self.context.host.run_directory, os.urandom(4).hex()))
    os.chmod(path, 0o777)
    Words.fetch(self, pinned, directory)


def _modified(self: Any, pinned: PinnedTree) -> int | None:
    return 7 if self.__dict__.get("fetched") else None


def _remembers(self: Any, pinned: PinnedTree, directory: str) -> None:
    self.fetched = True
    Words.fetch(self, pinned, directory)


def _half(self: Any, pinned: PinnedTree, directory: str) -> None:
    Words.fetch(self, pinned, directory)
    mark = Path(self.context.host.run_directory, "once")
    if mark.exists():
        os.unlink(os.path.join(directory, "1"))
    mark.touch(0o600)


def _raises(error: Exception) -> Callable[..., PinnedTree]:
    def pin(self: Any, op: SourceOp, platform: Any) -> PinnedTree:
        if not op.reference:
            raise error
        return Words.pin(self, op, platform)

    return pin


def _fifo(self: Any, pinned: PinnedTree, directory: str) -> None:
    Words.fetch(self, pinned, directory)
    os.mkfifo(os.path.join(directory, "fifo"))


def _close(self: Any) -> None:
    del self.context


def _stops_quietly(self: Any, pinned: PinnedTree, directory: str) -> None:
    with contextlib.suppress(Canceled):
        Words.fetch(self, pinned, directory)


def _calls_it_a_failure(self: Any, pinned: PinnedTree, directory: str) -> None:
    try:
        Words.fetch(self, pinned, directory)
    except Canceled:
        raise ImgError("it failed") from None


def _never_looks(self: Any, pinned: PinnedTree, directory: str) -> None:
    """Wait for somebody who does not come."""
    try:
        Words.fetch(self, pinned, directory)
    except Canceled:
        threading.Event().wait(20)
        raise


def _takes_a_part(self: Any, pinned: PinnedTree, directory: str) -> None:
    """Keep words in a file of the state, which is there before it is whole."""
    kept = Path(self.context.host.state_directory, "words")
    if not kept.exists():
        with fs.disk_errors(str(kept)), kept.open("w") as file:
            for word in pinned.details["words"]:
                file.write(word + " ")
                file.flush()
                threading.Event().wait(0.05)
    Words.fetch(self, replace(pinned, details={"words": kept.read_text().split()}), directory)


def _forgets_what_it_cannot_write(self: Any, pinned: PinnedTree, directory: str) -> None:
    with contextlib.suppress(ImgError):
        Words.fetch(self, pinned, directory)


def _has_it_all(self: Any, pinned: PinnedTree, directory: str) -> None:
    Words.fetch(self, pinned, directory)
    for path in Path(directory).iterdir():
        path.write_bytes(path.read_bytes())


def source(claim: str, **changes: Any) -> Mutant:
    return mutant(WordSuite, Words, claim, **changes)


SOURCES = {
    "has no scheme in its identities": source("test_identity_begins", pin=_identity(lambda self, op: oci.digest(op.reference.encode()))),
    "has a new identity each time": source("test_the_same_content", pin=_identity(lambda self, op: f"words:{uuid.uuid4()}")),
    "has one identity per object": source("test_the_same_content", pin=_identity(lambda self, op: f"words:{id(self)}")),
    "has one identity for all": source("test_other_content", pin=_identity(lambda self, op: "words:1")),
    "brings a pipe": source("test_fetching_fills", fetch=_fifo),
    "brings nothing": source("test_fetching_fills", fetch=lambda self, pinned, directory: None),
    "brings less the second time": source("test_what_was_pinned", fetch=_half),
    "mixes up threads": source("test_pin_and_fetch", fetch=_shared),
    "leaves its work open to others": source("test_the_run_directory", fetch=_open_files),
    "knows a time only afterwards": source("test_the_time_of_a_tree", fetch=_remembers, modified=_modified),
    "speaks in many lines": source("test_what_does_not_exist", pin=_raises(NotFoundError("no\nwords"))),
    "has a bug": source("test_what_does_not_exist", pin=_raises(KeyError("words"))),
    "is closed once": source("test_close_may", close=_close),
    "stops in the middle and is silent": source("test_canceling_ends", fetch=_stops_quietly),
    "calls a cancellation a failure": source("test_canceling_ends", fetch=_calls_it_a_failure),
    "does not look whether it is canceled": source("test_canceling_ends", fetch=_never_looks),
    "takes what another build has not finished": source("test_two_builds", fetch=_takes_a_part),
    "takes what a killed build has left": source("test_a_build_that_was_killed", fetch=_takes_a_part),
    "takes what a full disk has left": source("test_what_does_not_fit", fetch=_takes_a_part),
    "does not tell that the disk is full": source("test_what_does_not_fit", fetch=_forgets_what_it_cannot_write),
    "has all of it in memory": source("test_what_is_large", fetch=_has_it_all),
}  # fmt: skip
