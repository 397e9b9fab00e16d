"""Which files a COPY or ADD means, and what they are called below its destination."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.files.copy._tree import FileInfo, SourceTree, follow, list_directory, lookup, resolve
from img_core.files.ignore import IgnoreMatcher
from img_core.files.wildcards import compile_wildcards
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import DockerfileError, ImgError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from img_core.files.copy._reading import Reading
    from img_core.spec.graph import Copy

__all__ = ["Folder", "HardLinks", "Match", "Selection", "check_source", "select", "why_missing"]

_WILDCARD = re.compile(r"[*?\[\\]")
_PIVOT = b"/./"


@dataclass(frozen=True, slots=True, eq=False)
class Folder:
    """A directory to copy: *path* in the tree, *name* below the destination (empty: the destination itself).

    *files* are its entries that are not directories, ``(name, lstat result)`` sorted by name. A *passage* is excluded itself (by
    ``--exclude``) and there for what is below it: one that exists at the destination keeps its owner and gets no time.
    """

    path: bytes
    name: bytes
    info: FileInfo
    files: tuple[tuple[bytes, FileInfo], ...]
    passage: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """One file or directory that a source names. *path* is where it is in the tree, links resolved.

    *name* is what a file is called below the destination. *folders* are the directory itself and all below it, parents first; empty
    for a file. *parents* (``--parents`` only) are the directories to make above it: ``(name below the destination, lstat result)``;
    *origins* are their paths in the tree.
    *source* is set with ``--parents`` only: matches of one source share hard links.
    """

    path: bytes
    name: bytes
    info: FileInfo
    folders: tuple[Folder, ...] = ()
    parents: tuple[tuple[bytes, FileInfo], ...] = ()
    source: bytes = b""
    origins: tuple[bytes, ...] = ()


class HardLinks:
    """The first names of files that have several: hard links are kept in one match, and with ``--parents`` in all of one source.

    That is how far BuildKit keeps them: its copy walks the tree once per match, or once per source.
    """

    def __init__(self) -> None:
        self._first: dict[tuple[int, int], bytes] = {}
        self._within: object = None

    def start(self, match: Match) -> None:
        """Begin with *match*."""
        within: object = match.source or match
        if within is not self._within:
            self._within = within
            self._first.clear()

    def first(self, info: FileInfo, name: bytes) -> bytes | None:
        """Return the name that came first of the file with *info*, which is now met as *name*; None if this is the first."""
        key = info.st_dev, info.st_ino
        first = self._first.get(key)
        if first is None:
            self._first[key] = name
        return first


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What one `Copy` copies. *warnings* are for people. *reading* is what is known of the files; None: nothing, and nobody wants to."""

    tree: SourceTree
    matches: tuple[Match, ...]
    warnings: tuple[str, ...] = ()
    reading: Reading | None = None


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An existing path: as the source spells it, and with the links on the way resolved."""

    spelled: bytes
    path: bytes
    info: FileInfo


def select(tree: SourceTree, copy: Copy) -> Selection:
    """Find what *copy* copies from *tree*. Reads directories, no files.

    Raises `NotFoundError` for a source without wildcards that does not exist (or is ignored: the message says by which line),
    `DockerfileError` for a bad pattern, `ImgError` for what cannot be read.
    """
    exclude = IgnoreMatcher.from_patterns(copy.exclude) if copy.exclude else None
    matches: list[Match] = []
    warnings: list[str] = []
    for source in copy.sources:
        chooser = _Chooser(tree, os.fsencode(source), exclude, copy.parents)
        matches.extend(chooser.matches())
        warnings.extend(chooser.warnings)
    return Selection(tree, tuple(matches), tuple(warnings))


def check_source(tree: SourceTree, source: str, *, parents: bool) -> None:
    """Raise what `select` would raise for a *source* that does not exist; patterns are not looked at."""
    _Chooser(tree, os.fsencode(source), None, parents).literal()


def why_missing(
    directory: str, source: str, ignore: str | None = None, ignore_name: str = "", *, parents: bool = False
) -> str | None:
    """Say why nothing would be copied of *source* in *directory*, with what the text *ignore* of the file *ignore_name* hides in there.

    None if something may be.
    """
    matcher = IgnoreMatcher.from_file(ignore, ignore_name) if ignore is not None else None
    try:
        with fs.opened_directory(directory) as root:
            check_source(SourceTree(root, ignore=matcher, ignore_name=ignore_name), source, parents=parents)
    except ImgError as err:
        return f"{err.message} ({err.hint})" if err.hint else err.message
    return None


class _Chooser:
    """Finds the matches of one source."""

    def __init__(
        self, tree: SourceTree, source: bytes, exclude: IgnoreMatcher | None, parents: bool, base: bytes | None = None
    ) -> None:
        """*base* replaces what stands before the pivot in *source*."""
        self.tree = tree
        self.source = source
        self.exclude = exclude
        self.parents = parents
        written, self.pattern = _split_pivot(source) if parents else (b"", fs.clean_path(source))
        self.base = written if base is None else base
        self.open_base = base is None and _is_pattern(written)  # wildcards before the pivot
        self.warnings: list[str] = []

    def matches(self) -> Iterator[Match]:
        if not self.source:
            self.warnings.append(f"an empty source copies all of {self.tree.name}")
        literal = self.literal()
        if literal is not None:
            match = self.match(literal, wildcard=False)
            if match is not None:
                yield match
            return
        count = 0
        for chooser, candidate in self._candidates():
            count += 1
            match = chooser.match(candidate, wildcard=True)
            if match is not None:
                yield match
        if not count:
            self.warnings.append(f"`{fs.show(self.source)}` matches nothing in {self.tree.name}")

    def _candidates(self) -> Iterator[tuple[_Chooser, _Candidate]]:
        """Give what the wildcards find, each with the chooser that knows the base it is below."""
        if not self.open_base:
            if resolve(self.tree, self.base) is None:
                raise not_found(self.tree, self.base)
            yield from ((self, candidate) for candidate in self._find(self.base, self.pattern, follow=not self.parents))
            return
        for directory in self._find(b"", self.base, follow=True):
            below = _Chooser(self.tree, self.source, self.exclude, self.parents, directory.spelled)
            if _is_pattern(self.pattern):
                yield from ((below, candidate) for candidate in below._find(below.base, below.pattern, follow=False))
            elif (found := below._resolve(_join(below.base, below.pattern))) is not None:
                yield below, _Candidate(_join(below.base, below.pattern), *found)

    # --- finding ---

    def literal(self) -> _Candidate | None:
        """Return the one path of a source without wildcards, or None for a pattern."""
        if self.open_base:
            return None
        path = _join(self.base, self.pattern)
        wild = _WILDCARD.search(self.pattern.decode("latin-1"))
        if wild is not None and wild[0] != "\\":
            return None
        found = self._resolve(path)
        if found is not None:
            return _Candidate(path, *found)
        if wild is not None:  # a backslash: not a part of the name, so it quotes
            return None
        raise not_found(self.tree, path)

    def _resolve(self, path: bytes) -> tuple[bytes, FileInfo] | None:
        """Follow *path*; with ``--parents``, which keeps the look of the tree, a link is copied itself."""
        return resolve(self.tree, path, last=not self.parents)

    def _find(self, base: bytes, pattern: bytes, *, follow: bool) -> Iterator[_Candidate]:
        """Find what *pattern* matches below *base*.

        With *follow* links that match are followed, and what stands before the first wildcard must be there.
        """
        parts = pattern.split(b"/")
        wild = next(index for index, part in enumerate(parts) if _is_pattern(part))
        start = _join(base, b"/".join(parts[:wild]))
        found = resolve(self.tree, start)
        if found is None and follow:
            raise not_found(self.tree, start)
        if found is None or not stat.S_ISDIR(found[1].st_mode):
            return
        for candidate in self._descend(_Candidate(start, *found), parts[wild:]):
            target = candidate
            if follow and stat.S_ISLNK(candidate.info.st_mode):
                followed = resolve(self.tree, candidate.path)
                if followed is None:
                    raise not_found(self.tree, candidate.spelled)
                target = _Candidate(candidate.spelled, *followed)
            yield target

    def _descend(self, top: _Candidate, parts: list[bytes]) -> Iterator[_Candidate]:
        """Match *parts* below *top*; links on the way are not followed, as in a walk of the tree.

        With several ``**`` there are many ways to the same directory and part, and what is found there is found once.
        """
        done: set[tuple[bytes, int]] = set()
        steps = [self._step(top, parts, 0)]  # no recursion: trees may be thousands of levels deep
        while steps:
            found = next(steps[-1], None)
            if found is None:
                steps.pop()
                continue
            candidate, index = found
            if index == len(parts):
                yield candidate
            elif (candidate.path, index) not in done:
                done.add((candidate.path, index))
                steps.append(self._step(candidate, parts, index))

    def _step(self, directory: _Candidate, parts: list[bytes], index: int) -> Iterator[tuple[_Candidate, int]]:
        """Match the part *index* in *directory*: yield what it finds, and the index of the part to go on with there."""
        last = index + 1 == len(parts)
        if parts[index] == b"**" and self.parents:
            if not last:
                yield directory, index + 1
            for child in self._children(directory):
                if last or stat.S_ISDIR(child.info.st_mode):
                    yield child, index + last
            return
        matches = self._compile(parts[index])
        for child in self._children(directory):
            name = child.path[child.path.rfind(b"/") + 1 :]
            if matches(name.decode("utf-8", "surrogateescape")) and (last or stat.S_ISDIR(child.info.st_mode)):
                yield child, index + 1

    def _children(self, directory: _Candidate) -> Iterator[_Candidate]:
        for name, info in list_directory(self.tree, directory.path):
            path = _join(directory.path, name)
            if not self.tree.hides(path) or (stat.S_ISDIR(info.st_mode) and self.tree.shows_below(path)):
                yield _Candidate(_join(directory.spelled, name), path, info)

    def _compile(self, part: bytes) -> Callable[[str], bool]:
        text = part.decode("utf-8", "surrogateescape")
        try:
            return compile_wildcards(re.sub(r"\*\*+", "*", text))
        except ValueError as err:
            raise DockerfileError(f"syntax error in pattern: `{fs.show(self.source)}`", hint=str(err)) from err

    # --- naming ---

    def match(self, candidate: _Candidate, *, wildcard: bool) -> Match | None:
        """Turn *candidate* into a match, None if ``--exclude`` or the ignore file leaves nothing of it."""
        name = candidate.spelled
        name = name[len(self.base) :].lstrip(b"/") if self.parents else name[name.rfind(b"/") + 1 :]
        directory = stat.S_ISDIR(candidate.info.st_mode)
        # `--exclude` speaks of paths inside a named directory, but of the things themselves that a pattern found (CP37).
        if self.exclude is not None and name and (wildcard or not directory) and self._excluded(name, directory):
            # The destination is made for a directory, whatever is left of it.
            empty = (Folder(candidate.path, b"", candidate.info, ()),)
            return Match(candidate.path, name, candidate.info, empty) if directory and not self.parents else None
        above = tuple(self._parents(name)) if self.parents else ()
        parents, origins = tuple((name, info) for name, _, info in above), tuple(path for _, path, _ in above)
        source = self.source if self.parents else b""
        if not directory:
            return Match(candidate.path, name, candidate.info, (), parents, source, origins)
        folders = self._walk(candidate, name if self.parents else b"")
        if not folders:
            if wildcard or not self.tree.hides(candidate.path):
                return None
            raise not_found(self.tree, candidate.spelled)
        return Match(candidate.path, name, candidate.info, folders, parents, source, origins)

    def _excluded(self, name: bytes, directory: bool) -> bool:
        assert self.exclude is not None
        return self.exclude.excludes(name) and not (directory and self.exclude.may_reinclude_below(name))

    def _parents(self, name: bytes) -> Iterator[tuple[bytes, bytes, FileInfo]]:
        parts = name.split(b"/")[:-1]
        for end in range(1, len(parts) + 1):
            prefix = b"/".join(parts[:end])
            found = resolve(self.tree, _join(self.base, prefix))
            if found is not None:
                yield prefix, *found

    def _walk(self, top: _Candidate, top_name: bytes) -> tuple[Folder, ...]:
        """Collect the directory *top* and what is below it, parents first and sorted."""
        tree, ignore = self.tree, self.tree.ignore
        # Directories that only stay for something below them: an ignore file hides them, a `!` line may show their content.
        optional: list[bool] = []
        above: list[int] = []
        found: list[Folder] = []
        excluded = self.parents and self.exclude is not None and self.exclude.excludes(top_name)
        todo = [(top.path, top_name, b"", top.info, -1, tree.hides(top.path), excluded)]
        while todo:
            path, name, inside, info, parent, hidden, excluded = todo.pop()
            files: list[tuple[bytes, FileInfo]] = []
            below = []
            for child, child_info in list_directory(tree, path):
                child_path = path + b"/" + child if path else child
                child_inside = inside + b"/" + child if inside else child
                directory = stat.S_ISDIR(child_info.st_mode)
                child_hidden = ignore is not None and ignore.excludes(child_path)
                if child_hidden and not (directory and tree.shows_below(child_path)):
                    continue
                child_excluded = False
                if self.exclude is not None:
                    subject = _join(top_name, child_inside) if self.parents else child_inside
                    child_excluded = self.exclude.excludes(subject)
                    if child_excluded and not (directory and self.exclude.may_reinclude_below(subject)):
                        continue
                if directory:
                    child_name = name + b"/" + child if name else child
                    flags = child_hidden, child_excluded
                    below.append((child_path, child_name, child_inside, child_info, len(found), *flags))
                else:
                    files.append((child, child_info))
            found.append(Folder(path, name, info, tuple(files), excluded))
            optional.append(hidden or excluded)
            above.append(parent)
            todo.extend(reversed(below))
        return _prune(found, optional, above)


def _prune(folders: list[Folder], optional: list[bool], above: list[int]) -> tuple[Folder, ...]:
    """Drop the *optional* folders that hold nothing; *above* is the index of each folder's parent."""
    if not any(optional):
        return tuple(folders)
    kept = [not maybe or bool(folder.files) for folder, maybe in zip(folders, optional, strict=True)]
    for index in range(len(folders) - 1, 0, -1):  # children come after their parents
        if kept[index]:
            kept[above[index]] = True
    return tuple(folder for folder, keep in zip(folders, kept, strict=True) if keep)


def _is_pattern(path: bytes) -> bool:
    return _WILDCARD.search(path.decode("latin-1")) is not None


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory and name else directory or name


def _split_pivot(source: bytes) -> tuple[bytes, bytes]:
    """Split at the first ``/./`` behind a name: what is before it does not become part of the copied path."""
    while source.startswith(b"./"):
        source = source[2:].lstrip(b"/")
    base, pivot, rest = source.partition(_PIVOT)
    return (fs.clean_path(base), fs.clean_path(rest)) if pivot else (b"", fs.clean_path(source))


# --- errors -----------------------------------------------------------------------------------------------------------


def not_found(tree: SourceTree, path: bytes) -> NotFoundError:
    """Say that a source does not exist: why, or what has a similar name."""
    message = f'"/{fs.show(path)}": not found in {tree.name}'
    way = follow(tree, path)
    if way.link is not None:
        message += f": `/{fs.show(way.link[0])}` links to `{fs.show(way.link[1])}`"
    rule = tree.ignore.rule_for(way.path) if tree.ignore is not None and tree.hides(way.path) else None
    if rule is not None:
        message += f"{', which is' if way.link else ':'} excluded by line {rule.line} of `{tree.ignore_name}`: `{fs.show(str(rule))}`"
        return NotFoundError(message, hint=f"add `!{fs.show(way.path)}` at the end of `{tree.ignore_name}`")
    if way.link is not None:
        outside = way.link[1].startswith((b"/", b"../"))
        return NotFoundError(
            f"{message}, which is not there", hint=f"links lead nowhere outside {tree.name}" if outside else None
        )
    return NotFoundError(message, hint=_near_names(tree, way.path))


def _near_names(tree: SourceTree, path: bytes) -> str | None:
    from difflib import get_close_matches  # only on the way to an error

    head, _, last = path.rpartition(b"/")
    info = lookup(tree, head)
    if info is None or not stat.S_ISDIR(info.st_mode):
        return None
    names = [name for name, _ in list_directory(tree, head) if not tree.hides(_join(head, name))]
    near = get_close_matches(os.fsdecode(last), map(os.fsdecode, names), 3, 0.6)
    return _did_you_mean([_join(head, os.fsencode(name)) for name in near])


def _did_you_mean(names: Iterable[bytes]) -> str | None:
    shown = " or ".join(f"`{fs.show(name)}`" for name in names)
    return f"did you mean {shown}?" if shown else None
