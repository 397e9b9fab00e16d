"""Credential stores, importers and secret providers with one thing wrong."""

# ruff: noqa: E501 - one mutant, one line
from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.mutants import Mutant, mutant
from img_core.spec.errors import ImgError
from img_core.spec.importer import LoadedImage
from img_core.spec.secret import SECRET_LIMIT
from img_core.spec.values import Credentials, Descriptor
from img_core.testing.contracts.credentials import CredentialStoreContract
from img_core.testing.contracts.importer import ImporterContract
from img_core.testing.contracts.secret import SecretProviderContract
from img_core.testing.images import SmallImage, write_layout
from img_credentials_dockerconfig._store import DockerConfigStore
from img_importer_archive._importers import LayoutImporter
from img_secret_file._file import FileSecret

__all__ = ["CREDENTIALS", "IMPORTERS", "SECRETS"]

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
