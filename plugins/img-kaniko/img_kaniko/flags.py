"""The flags of kaniko's executor, and what becomes of each here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from img_core.forms.words import truth
from img_core.spec.errors import UsageError
from img_core.spec.text import show, suggestion

__all__ = ["FLAGS", "Flag", "Given", "parse"]

Kind = Literal["text", "list", "switch"]


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: *name* without dashes, how often it counts and whether it takes a value, and its one-letter form.

    *note* is said once when it is given, because it means nothing here; *refusal* is why it cannot be used.
    """

    name: str
    kind: Kind = "text"
    letter: str = ""
    note: str = ""
    refusal: str = ""
    same_as: str = ""  #: the flag that it is another name of


_OUTSIDE = "nothing of the container that img runs in reaches the image"
_RETRIES = "img repeats requests by itself"
_SNAPSHOTS = "img knows what a step changed without looking at all files"
_LOGS = "img writes plain progress"
_STAGES = "img never builds a stage that nothing needs"

#: In the order of kaniko's documentation (README, "Additional Flags", v1.24).
FLAGS: Final = (
    Flag("build-arg", "list"),
    Flag("bucket", letter="b", refusal="contexts in buckets cannot be read; fetch it, or use `--context tar://stdin`"),
    Flag("cache", "switch"),
    Flag("cache-copy-layers", "switch", note="img always keeps the layers of COPY"),
    Flag("cache-dir"),
    Flag("cache-repo"),
    Flag("cache-run-layers", "switch", note="img always keeps the layers of RUN"),
    Flag("cache-ttl"),
    Flag("cleanup", "switch", note=_OUTSIDE),
    Flag("compressed-caching", "switch", note="img needs no more memory for compressed layers"),
    Flag("context", letter="c"),
    Flag("context-sub-path"),
    Flag("credential-helpers", "list", note="img uses the helpers that config.json of docker names"),
    Flag("custom-platform"),
    Flag("customPlatform", same_as="custom-platform"),
    Flag("destination", "list", letter="d"),
    Flag("digest-file"),
    Flag("dockerfile", letter="f"),
    Flag("force", "switch", note="img changes nothing outside its state directory"),
    Flag("force-build-metadata", "switch", note="img keeps all metadata"),
    Flag("git", "list"),
    Flag("ignore-path", "list", note=_OUTSIDE),
    Flag("ignore-var-run", "switch", note=_OUTSIDE),
    Flag("image-download-retry", note=_RETRIES),
    Flag("image-fs-extract-retry", note=_RETRIES),
    Flag("image-name-tag-with-digest-file"),
    Flag("image-name-with-digest-file"),
    Flag("initial-fs-unpacked", "switch", refusal="the file system of the container is never the base image here"),
    Flag("insecure", "switch"),
    Flag("insecure-pull", "switch"),
    Flag("insecure-registry", "list"),
    Flag("kaniko-dir", note="the state directory of img is where `--state` or XDG_DATA_HOME says"),
    Flag("label", "list"),
    Flag("log-format", note=_LOGS),
    Flag("log-timestamp", "switch", note=_LOGS),
    Flag("no-push", "switch"),
    Flag("no-push-cache", "switch"),
    Flag("oci-layout-path"),
    Flag("pre-cleanup", "switch", note=_OUTSIDE),
    Flag("preserve-context", "switch", note="img never changes the context"),
    Flag(
        "push-ignore-immutable-tag-errors",
        "switch",
        refusal="an image that was not pushed is an error here; push to a tag that does not exist",
    ),
    Flag("push-retry", note=_RETRIES),
    Flag("registry-certificate", "list"),
    Flag("registry-client-cert", "list"),
    Flag("registry-map", "list", refusal="name the registry that is meant, or a mirror with `--registry-mirror`"),
    Flag("registry-mirror", "list"),
    Flag("reproducible", "switch"),
    Flag("single-snapshot", "switch", refusal="an image of img has one layer for each step that changes files"),
    Flag("skip-default-registry-fallback", "switch", refusal="a registry is asked when its mirrors lack an image"),
    Flag("skip-push-permission-check", "switch", note="img asks the registry when it pushes"),
    Flag("skip-tls-verify", "switch"),
    Flag("skip-tls-verify-pull", "switch"),
    Flag("skip-tls-verify-registry", "list"),
    Flag("skip-unused-stages", "switch", note=_STAGES),
    Flag("snapshot-mode", note=_SNAPSHOTS),
    Flag("snapshotMode", same_as="snapshot-mode"),
    Flag("tar-path"),
    Flag("tarPath", same_as="tar-path"),
    Flag("target"),
    Flag("use-new-run", "switch", note=_SNAPSHOTS),
    Flag("verbosity", letter="v"),
    Flag("whitelist-var-run", "switch", note=_OUTSIDE),
)

_BY_NAME: Final = {flag.name: flag for flag in FLAGS}
_BY_LETTER: Final = {flag.letter: flag for flag in FLAGS if flag.letter}


@dataclass(slots=True)
class Given:
    """What a command line said: values of flags, by name."""

    texts: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    switches: dict[str, bool] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def text(self, name: str, default: str = "") -> str:
        """Return the last value of a flag."""
        return self.texts.get(name, default)

    def list(self, name: str) -> list[str]:
        """Return all values of a flag."""
        return self.lists.get(name, [])

    def switch(self, *names: str) -> bool:
        """Tell whether one of the flags is on."""
        return any(self.switches.get(name, False) for name in names)


def parse(arguments: Sequence[str]) -> Given:
    """Read a command line as kaniko does (package pflag): ``--flag value``, ``--flag=value``, ``--switch[=false]``, ``-d value``.

    Raises UsageError for what kaniko does not know, and for what cannot be done here.
    """
    given = Given()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        flag, value = _split(word)
        if value is None:
            value = "true" if flag.kind == "switch" else _next(word, rest)
        _take(given, flag, value)
    return given


def _split(word: str) -> tuple[Flag, str | None]:
    name, equals, value = word.partition("=")
    flag: Flag | None = None
    if word.startswith("--"):
        flag = _BY_NAME.get(name[2:])
    elif word.startswith("-") and word[1:2]:
        flag = _BY_LETTER.get(word[1])
        if flag and len(name) > 2:  # the value follows the letter
            equals, value = "=", word[2:]
    else:
        raise UsageError(f"unexpected argument `{show(word)}`", hint="all that kaniko takes are flags")
    if flag is None:
        raise UsageError(f"unknown flag: {show(name)}", hint=suggestion(name, [f"--{known}" for known in _BY_NAME]))
    return (_BY_NAME[flag.same_as] if flag.same_as else flag), value if equals else None


def _next(word: str, rest: list[str]) -> str:
    if not rest:
        raise UsageError(f"flag needs an argument: {show(word)}")
    return rest.pop(0)


def _take(given: Given, flag: Flag, value: str) -> None:
    if flag.kind == "switch":
        on = truth(value)
        if on is None:
            raise UsageError(f"`--{flag.name}` is true or false, not `{show(value)}`")
        given.switches[flag.name] = on
        if not on:
            return
    elif flag.kind == "list":
        given.lists.setdefault(flag.name, []).append(value)
    else:
        given.texts[flag.name] = value
    if flag.refusal:
        raise UsageError(f"`--{flag.name}` is not supported", hint=flag.refusal)
    note = f"`--{flag.name}` has no meaning here: {flag.note}"
    if flag.note and note not in given.notes:
        given.notes.append(note)
