"""docker's filters: ``reference=app:*``, ``label=team=a``, ``dangling=true``, ``before=IMAGE``, ``since=IMAGE``, ``until=24h``.

Several must all hold, but of several ``reference=`` one. They stand beside those of `img_core.cli._filters` (containerd's), which are
one condition more. When an image was made is when it came into the state directory, as ``img ls`` shows it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from img_core.cli._amounts import age
from img_core.cli._filters import parse_filters
from img_core.cli._images import find_image
from img_core.cli._usage import field
from img_core.forms.words import truth
from img_core.images.reference import Reference, full_id
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from img_core.api import Client, Piece, StoredImage

__all__ = ["DockerFilter", "image_filters", "matches_reference", "piece_filters", "split_filters", "unused_seconds"]

_IMAGE_KEYS = ("reference", "label", "dangling", "before", "since", "until")
_PIECE_KEYS = ("reference", "dangling", "before", "since", "until")
#: Fields of containerd's filters of the build cache, which docker compares with one ``=``.
_PIECE_FIELDS = ("id", "parent", "description", "type", "inuse", "mutable", "immutable", "shared", "private")
_FORM = re.compile(r"([a-z]+)(!?)=(?![=~])(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class DockerFilter:
    """``key=value``, or ``key!=value`` if it is *negated*."""

    key: str
    value: str
    negated: bool = False

    @property
    def truth(self) -> bool:
        """The value as a Boolean. Raises UsageError."""
        found = truth(self.value)
        if found is None:
            raise UsageError(
                f"invalid filter `{self.key}={self.value}`", hint=f"`{self.key}=true` or `{self.key}=false`"
            )
        return found is not self.negated


def split_filters(texts: Iterable[str], keys: Sequence[str]) -> tuple[list[DockerFilter], list[str]]:
    """Return docker's filters of *texts*, which have one of *keys* and one ``=``, and the rest: containerd's."""
    ours, others = [], []
    for text in texts:
        match = _FORM.fullmatch(text)
        if match is not None and match[1] in keys and (not match[2] or match[1] == "label"):
            ours.append(DockerFilter(match[1], match[3], bool(match[2])))
        else:
            others.append(text)
    return ours, others


def image_filters(texts: Sequence[str], doing: str) -> Callable[[Client], list[StoredImage]]:
    """Return a function from a client to its images that pass *texts*. Raises UsageError, the later one NotFoundError.

    *doing* (``listing images``) starts messages.
    """
    chosen, others = split_filters(texts, _IMAGE_KEYS)
    wanted = parse_filters(others, doing)
    references = [one.value for one in chosen if one.key == "reference"]
    dangling = [one.truth for one in chosen if one.key == "dangling"]
    labels = [one for one in chosen if one.key == "label"]
    oldest = _age(chosen)

    needs_labels = any("label" in text for text in texts)

    def choose(client: Client) -> list[StoredImage]:
        earliest, latest = _bounds(chosen, client, oldest, doing)

        def passes(image: StoredImage) -> bool:
            return (
                earliest < image.created < latest
                and all(truth is image.is_untagged for truth in dangling)
                and (not references or any(matches_reference(pattern, image.name) for pattern in references))
                and _has_labels(labels, image.labels)
                and wanted(lambda path: _field_of(image, path))
            )

        return list(filter(passes, client.images(labels=needs_labels)))

    return choose


def _field_of(image: StoredImage, path: tuple[str, ...]) -> str | None:
    """Return what a filter compares, None for a field that is not there."""
    match path:
        case ("name",):
            return None if image.is_untagged else image.name
        case ("target", "digest"):
            return image.digest
        case ("target", "mediatype"):
            return image.media_type
        case ("annotations", *rest):
            return image.annotations.get(".".join(rest))
        case ("labels", *rest):
            return image.labels.get(".".join(rest))
    return None


def piece_filters(texts: Sequence[str], failed: str) -> Callable[[Client], Callable[[Piece], bool]]:
    """Return a function from a client to one that tells whether a piece of it passes *texts*, without ``until``: see `unused_seconds`.

    Raises UsageError, whose message may start with *failed*, and the later function NotFoundError.
    """
    chosen, others = split_filters(texts, (*_PIECE_KEYS, *_PIECE_FIELDS))
    if labels := [text for text in others if text.startswith(("label=", "label!="))]:
        raise UsageError(f"`{labels[0]}` is a filter of images", hint="the build cache has no labels")
    wanted = parse_filters(others, "", failed=failed)
    references = [one.value for one in chosen if one.key == "reference"]
    dangling = [one.truth for one in chosen if one.key == "dangling"]
    fields = [one for one in chosen if one.key in _PIECE_FIELDS]

    def bind(client: Client) -> Callable[[Piece], bool]:
        earliest, latest = _bounds(chosen, client, 0.0, failed)

        def passes(piece: Piece) -> bool:
            return (
                earliest < piece.created < latest
                and all(truth is not piece.shared for truth in dangling)
                and (not references or any(_came_from(pattern, piece) for pattern in references))
                and all(_field_is(one, piece) for one in fields)
                and wanted(lambda path: field(piece, path))
            )

        return passes

    return bind


def unused_seconds(texts: Sequence[str]) -> float:
    """Return the age that the ``until=`` among *texts* ask for. Raises UsageError."""
    return _age(split_filters(texts, ("until",))[0])


def _age(chosen: Sequence[DockerFilter]) -> float:
    return max((age(one.value, "the filter until") for one in chosen if one.key == "until"), default=0.0)


def _bounds(chosen: Sequence[DockerFilter], client: Client, oldest: float, doing: str) -> tuple[float, float]:
    """Return the times, in seconds since 1970 UTC, between which something has to be made. Raises NotFoundError."""
    import time

    def created(key: str) -> list[float]:
        return [find_image(client, one.value, doing=doing).created for one in chosen if one.key == key]

    latest = [*created("before"), *([time.time() - oldest] if oldest else [])]
    return max(created("since"), default=float("-inf")), min(latest, default=float("inf"))


def matches_reference(pattern: str, name: str) -> bool:
    """Tell whether *pattern* means the image *name*: short or in full, with or without the tag; ``*`` stops at ``/``. It means no id."""
    if full_id(name):
        return False
    named = Reference.parse(name)
    return any(_matches(pattern, text) for text in (named.familiar(), named.familiar_name, name, named.name))


def _matches(pattern: str, name: str) -> bool:
    """Match as Go's path.Match does, whose classes are negated with ``^``."""
    patterns, names = pattern.replace("[^", "[!").split("/"), name.split("/")
    return len(patterns) == len(names) and all(map(fnmatchcase, names, patterns))


def _came_from(pattern: str, piece: Piece) -> bool:
    origin = piece.description.partition("pulled from ")[2].partition("@")[0]
    if not origin:
        return False
    named = Reference.parse(origin)
    return _matches(pattern, named.familiar_name) or _matches(pattern, named.name)


def _field_is(one: DockerFilter, piece: Piece) -> bool:
    found = field(piece, (one.key,))
    if truth(one.value) is False and found in (None, "true"):
        return found is None
    return found == ("true" if truth(one.value) and found == "true" else one.value)


def _has_labels(wanted: Iterable[DockerFilter], labels: Mapping[str, str]) -> bool:
    return all(_has_label(one, labels) is not one.negated for one in wanted)


def _has_label(one: DockerFilter, labels: Mapping[str, str]) -> bool:
    key, equals, value = one.value.partition("=")
    return key in labels and (not equals or labels[key] == value)
