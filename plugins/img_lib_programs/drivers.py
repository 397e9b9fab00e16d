"""Drivers and listeners that ask a program (docs/reference/executable-plugins.md)."""

from __future__ import annotations

import base64
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.files import fs
from img_core.files.output import check_output, is_stdout, replacement
from img_core.linux.dialogue import DialogueError, converse
from img_core.spec.credentials import CredentialStore
from img_core.spec.errors import CredentialsError, ImgError, NotFoundError, PluginError, UsageError
from img_core.spec.exporter import Attestation, Exporter
from img_core.spec.graph import RunAddition, RunOp, SourceOp
from img_core.spec.hooks import DRIVER_HOOKS, hookimpl
from img_core.spec.secret import SecretProvider
from img_core.spec.source import PinnedTree, TreeSource
from img_core.spec.values import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from img_core.spec.exporter import ExportProgress, Result
    from img_core.spec.frontend import Plan
    from img_core.spec.graph import Vertex
    from img_core.spec.values import Platform

__all__ = ["program_module"]

#: Seconds that a program may be silent: one that works on much, and one that answers a question.
_WORK, _ANSWER = 600.0, 30.0
#: Replaces both, for who needs another patience.
_SILENCE = "IMG_PLUGIN_SILENCE"


class Program:
    """The program *path* of the plugin *name* of a *kind*; *called* is how messages call that."""

    def __init__(self, kind: str, name: str, path: str, called: str) -> None:
        self.kind = kind
        self.name = name
        self.path = path
        self._called = called

    def ask(
        self, call: str, question: Mapping[str, Any], environment: Mapping[str, str], *, work: bool = False, **more: Any
    ) -> Mapping[str, Any]:  # Any: JSON, and what `converse` takes
        """Have it do *call*; return its result. Raises PluginError if it does wrong, ImgError for what it calls an error."""
        silence = _patience(environment) or (_WORK if work else _ANSWER)
        try:
            return converse(
                [self.path, call],
                {"img": 1, "call": call, **question},
                environment=environment,
                silence=silence,
                **more,
            )
        except DialogueError as err:
            raise self.wrong(err.message) from err
        except ImgError as err:
            if type(err) is ImgError:  # its own
                raise ImgError(f"{self.kind} `{self.name}`: {err.message}", hint=err.hint) from err
            raise

    def wrong(self, what: str) -> PluginError:
        """Return the error that it did *what*."""
        hint = f"do without: `--no-plugin {self.kind}:{self.name}`"
        return PluginError(f"plugin {self._called} {what}", hint=hint)

    def text(self, result: Mapping[str, Any], key: str) -> str:
        """Return a text that *result* must have."""
        value = result.get(key)
        if not isinstance(value, str) or not value or not value.isprintable():
            raise self.wrong(f"gives no `{key}`")
        return value


def _patience(environment: Mapping[str, str]) -> float:
    text = environment.get(_SILENCE, "")
    if not text:
        return 0.0
    if not text.isdecimal() or not 0 < int(text) < 10**6:
        raise UsageError(f"{_SILENCE} is not a number of seconds: `{fs.show(text)}`")
    return float(text)


def program_module(kind: str, name: str, path: str, called: str) -> object:
    """Return what the module of an entry point would be: it asks the program what it can. Arguments as of `Program`.

    Raises PluginError, ImgError.
    """
    program = Program(kind, name, path, called)
    about = program.ask("describe", {}, dict(os.environ))
    if kind == "listener":
        return SimpleNamespace(**{hook: hookimpl(function) for hook, function in _heard(program, about).items()})
    base: Any = {
        "exporter": ProgramExporter,
        "source": ProgramSource,
        "credentials": ProgramStore,
        "secret": ProgramSecret,
    }[kind]
    facts = {
        "__doc__": str(about.get("summary") or f"The program {path}."),
        "name": name,
        "api": tuple(about.get("api") or (1, 1)),
        "schema": base.completed(program, about.get("options")),
        "program": program,
        "about": about,
    }
    driver = type(base.__name__, (base,), facts)
    return SimpleNamespace(**{DRIVER_HOOKS[kind]: hookimpl(lambda: driver)})


def _schema(program: Program, options: object) -> Mapping[str, Any] | None:  # Any: JSON
    """Return the JSON Schema of *options*, which maps names to schemas."""
    if options is None:
        return None
    if not isinstance(options, dict) or not all(isinstance(value, dict) for value in options.values()):
        raise program.wrong("describes `options` that are no object of objects")
    return {"type": "object", "properties": options, "additionalProperties": False}


class ProgramExporter(Exporter):
    """Writes a file, or whatever the program wants."""

    needs_layers = False
    program: ClassVar[Program]
    about: ClassVar[Mapping[str, Any]]  # Any: JSON

    @classmethod
    def completed(cls, program: Program, options: object) -> Mapping[str, Any]:  # Any: JSON
        """Return the schema, in which `dest` is ours."""
        dest = {"type": "string", "description": "file"}
        schema = _schema(program, options) or _schema(program, {}) or {}
        return {**schema, "properties": {**schema["properties"], "dest": dest}, "required": ["dest"]}

    def check(self) -> None:
        """Refuse what a file cannot be put at."""
        dest = self.options["dest"]
        if is_stdout(dest):
            raise UsageError(f"type={self.name} needs the name of a file: `dest=FILE`")
        check_output(dest, self.name)
        if os.path.lexists(dest) and not os.path.isfile(dest):
            raise UsageError(f"`{fs.show(dest)}` is not a regular file")

    def export(self, result: Result, progress: ExportProgress) -> Mapping[str, Any]:
        """Give the program the files of the image and an empty file; it is at its place when the program has ended well."""
        if len(result.images) != 1:
            raise UsageError(f"type={self.name} writes one platform only")
        (image,) = result.images
        progress.status(f"calling {self.program.path}")
        with replacement(self.options["dest"]) as file:
            with image.tree() as tree:
                question = {
                    "options": {name: value for name, value in self.options.items() if name != "dest"},
                    "platform": str(image.platform),
                    "config": image.config(),
                    "names": list(map(str, result.names)),
                    "source_date_epoch": result.source_date_epoch,
                    "tree": f"/dev/fd/{tree.fd}",
                    "output": f"/dev/fd/{file.fileno()}",
                }
                metadata = self.program.ask(
                    "export", question, self.host.environment or dict(os.environ), work=True,
                    directory=f"/proc/self/fd/{tree.fd}", fds=[tree.fd, file.fileno()],
                    told=lambda message: progress.status(_status(message)), check=progress.check,
                )  # fmt: skip
            progress.status("renaming")
        return metadata


def _status(message: Mapping[str, Any]) -> str:  # Any: JSON
    return " ".join(fs.show(message["progress"]).split())[:200] or "working"


class ProgramSource(TreeSource):
    """A source of directory trees: ``NAME://…`` as a context."""

    program: ClassVar[Program]

    @classmethod
    def completed(cls, program: Program, options: object) -> Mapping[str, Any] | None:  # Any: JSON
        """Return the schema."""
        return _schema(program, options)

    @classmethod
    def claims(cls, address: str) -> str | None:
        """Claim what begins with its name."""
        return address if address.startswith(f"{cls.name}://") else None

    def _ask(self, call: str, question: Mapping[str, Any], **more: Any) -> Mapping[str, Any]:  # Any: JSON
        if self.context.offline:
            raise NotFoundError(f"`{fs.show(str(question['reference']))}` is not looked for offline")
        environment = self.context.host.environment or dict(os.environ)
        question = {"options": self.options, **question}
        return self.program.ask(call, question, environment, check=self.context.check, as_user=True, work=True, **more)

    def pin(self, op: SourceOp, platform: Platform | None) -> PinnedTree:
        """Ask what the content is called."""
        found = self._ask("pin", {"reference": op.reference, "platform": str(platform or "")})
        identity = self.program.text(found, "identity")
        modified = found.get("modified")
        if modified is not None and (not isinstance(modified, int) or not 0 < modified < 2**33):
            raise self.program.wrong("gives a `modified` that is no number of seconds")
        details = {"reference": op.reference, "identity": identity, "modified": modified}
        return PinnedTree(f"{self.name}:{identity}", details=details)

    def fetch(self, pinned: PinnedTree, directory: str) -> None:
        """Let the program fill *directory*."""
        question = {name: pinned.details[name] for name in ("reference", "identity")}
        self._ask("fetch", {**question, "directory": directory}, directory=directory)

    def modified(self, pinned: PinnedTree) -> int | None:
        """Return what the program told."""
        found: int | None = pinned.details["modified"]
        return found


class ProgramStore(CredentialStore):
    """A credential store; one whose ``takes`` is false keeps no new logins."""

    program: ClassVar[Program]
    about: ClassVar[Mapping[str, Any]]  # Any: JSON

    @classmethod
    def completed(cls, program: Program, options: object) -> Mapping[str, Any] | None:  # Any: JSON
        """Return the schema."""
        return _schema(program, options)

    def _ask(self, call: str, **question: Any) -> Mapping[str, Any]:  # Any: JSON
        try:
            return self.program.ask(
                call, {"options": self.options, **question}, self.environment, as_user=True, discreet=True
            )
        except ImgError as err:
            raise CredentialsError(err.message, hint=err.hint) from None

    def get(self, server: str, repository: str = "") -> Credentials | None:
        """Ask for what it has."""
        found = self._ask("get", server=server, repository=repository)
        if not found:
            return None
        values = [found.get(name, "") for name in ("username", "password", "identity_token")]
        username, password, token = values
        if not all(isinstance(value, str) for value in values) or not (token or (username and password)):
            raise CredentialsError(self.program.wrong("gives neither a password with its user nor a token").message)
        return Credentials(identity_token=token) if token else Credentials(username, password)

    def takes(self, server: str) -> bool:
        """Return what it says of itself."""
        return self.about.get("takes") is not False

    def store(self, server: str, credentials: Credentials) -> None:
        """Hand *credentials* over."""
        secret = (
            {"identity_token": credentials.identity_token}
            if credentials.identity_token
            else {"username": credentials.username, "password": credentials.password}
        )
        self._ask("store", server=server, **secret)

    def erase(self, server: str) -> bool:
        """Ask to forget *server*."""
        return self._ask("erase", server=server).get("known") is True

    def list(self) -> Mapping[str, str]:
        """Ask for all names."""
        servers = self._ask("list").get("servers", {})
        if not isinstance(servers, dict) or not all(isinstance(user, str) for user in servers.values()):
            raise CredentialsError(self.program.wrong("lists no servers with their users").message)
        return servers


class ProgramSecret(SecretProvider):
    """A provider of secrets, which is told the id of each among its options."""

    program: ClassVar[Program]

    @classmethod
    def completed(cls, program: Program, options: object) -> Mapping[str, Any]:  # Any: JSON
        """Return the schema, in which `id` is ours."""
        own = {"type": "string", "description": "the id of the secret"}
        schema = _schema(program, options) or _schema(program, {}) or {}
        return {**schema, "properties": {**schema["properties"], "id": own}}

    @classmethod
    def complete(cls, secret: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add the id."""
        return {"id": secret, **options}

    def _ask(self, call: str) -> Mapping[str, Any]:  # Any: JSON
        return self.program.ask(call, {"options": self.options}, self.environment, as_user=True, discreet=True)

    def check(self) -> None:
        """Ask whether it is there."""
        self._ask("check")

    def get(self) -> bytes:
        """Ask for it, in base64."""
        try:
            return base64.b64decode(self._ask("get").get("base64"), validate=True)  # type: ignore[arg-type]  # see below
        except (TypeError, ValueError):
            raise self.program.wrong("gives no secret in `base64`") from None


# -------------------------------------------------------------------------------------------------------- listeners


def _heard(
    program: Program, about: Mapping[str, Any]
) -> dict[str, Callable[..., Any]]:  # Any: JSON, and what hooks say
    """Return implementations of the hooks that the program names."""

    def ask(hook: str, question: Mapping[str, Any]) -> Mapping[str, Any]:
        return program.ask(hook, question, dict(os.environ), as_user=True)

    def img_source_wanted(source: SourceOp) -> None:
        ask("img_source_wanted", {"source": source.identifier})

    def img_run_planned(vertex: Vertex) -> RunAddition | None:
        env = ask("img_run_planned", {"step": _step(vertex)}).get("env", {})
        if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
            raise program.wrong("adds an `env` that is no object of texts")
        return RunAddition(env=tuple(sorted(env.items()))) if env else None

    def img_build_planned(plan: Plan) -> None:
        platforms = [str(image.platform) for image in plan.images]
        ask("img_build_planned", {"platforms": platforms, "steps": list(map(_step, plan.vertices()))})

    def img_step_finished(vertex: Vertex, cached: bool, seconds: float) -> None:
        ask("img_step_finished", {"step": _step(vertex), "cached": cached, "seconds": seconds})

    def img_step_failed(vertex: Vertex, error: str, seconds: float) -> None:
        ask("img_step_failed", {"step": _step(vertex), "error": error, "seconds": seconds})

    def img_layer_committed(vertex: Vertex, descriptor: Any, diff_id: str) -> None:
        layer = {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}
        ask("img_layer_committed", {"step": _step(vertex), "layer": {**layer, "diff_id": diff_id}})

    def img_image_built(image: Any, names: Sequence[str]) -> list[Attestation]:
        about = {"platform": str(image.platform), "config": image.config(), "names": list(names)}
        told = ask("img_image_built", about).get("attestations", [])
        try:
            return [Attestation(item["predicate_type"], item["predicate"]) for item in told]
        except (TypeError, KeyError):
            raise program.wrong("gives attestations without `predicate_type` and `predicate`") from None

    def img_exported(exporter: str, names: Sequence[str], metadata: Mapping[str, Any]) -> None:
        ask("img_exported", {"exporter": exporter, "names": list(names), "metadata": dict(metadata)})

    def img_build_finished(error: str, seconds: float) -> None:
        ask("img_build_finished", {"error": error, "seconds": seconds})

    can = {name: function for name, function in locals().items() if name.startswith("img_")}
    wanted = about.get("hooks")
    if not isinstance(wanted, list) or not wanted or not all(isinstance(hook, str) and hook in can for hook in wanted):
        raise program.wrong(f"describes no `hooks`, or others than {', '.join(sorted(can))}")
    return {hook: can[hook] for hook in wanted}


def _step(vertex: Vertex) -> dict[str, Any]:  # Any: JSON
    """Return what programs are told of a step."""
    op = vertex.op
    told: dict[str, Any] = {
        "digest": vertex.digest,
        "name": vertex.name,
        "kind": type(op).__name__.removesuffix("Op").lower(),
    }
    if isinstance(op, SourceOp):
        told["source"] = op.identifier
    if isinstance(op, RunOp):
        told["args"] = list(op.args)
    return told
