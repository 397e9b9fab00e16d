"""What is fuzzed: functions that get bytes from strangers. Each may raise what its readers are prepared for, and nothing else.

Where a target needs several texts, a NUL separates them.
"""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from img_core.archives.tar import TarReader
from img_core.config import Config
from img_core.files.ignore import IgnoreMatcher
from img_core.files.wildcards import compile_wildcards
from img_core.images import oci, platforms
from img_core.images.reference import Reference
from img_core.net.git_urls import is_git, is_web
from img_core.net.retry import Failure, retry_after_seconds
from img_core.spec.errors import ArchiveError, DockerfileError, ImgError, NotFoundError
from img_core.spec.frontend import BaseImage, PlanRequest
from img_core.spec.values import Digest, Platform
from img_core.testing.plans import ReadyResolver
from img_frontend_dockerfile._frontend import DockerfileFrontend
from img_frontend_dockerfile.syntax.expansion import expand_for_display, expand_heredoc, expand_word, expand_words
from img_frontend_dockerfile.syntax.patterns import Pattern
from img_frontend_dockerfile.syntax.source import Fault
from img_lib_credentials._file import AuthFile
from img_registry_oci._auth import parse_challenges
from img_registry_oci._client import _first_byte
from img_registry_oci._config import HostsConfig
from img_registry_oci._listing import next_page
from img_source_git._address import parse_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.net.transport import Response

__all__ = ["TARGETS"]

_PLATFORM = Platform("linux", "amd64")
_LONGEST_MESSAGE = 4000  #: characters, some escaped; the command line cuts what it shows


def _texts(data: bytes, count: int) -> list[str]:
    parts = data.decode("utf-8", "surrogateescape").split("\0", count - 1)
    return parts + [""] * (count - len(parts))


def _check(error: ImgError) -> None:
    assert len(error.message) <= _LONGEST_MESSAGE, error.message
    assert "\n" not in error.message, error.message


class _Resolver(ReadyResolver):
    """Knows one image, with triggers, and no contexts."""

    def base_image(self, reference: str, platform: Platform) -> BaseImage:
        if reference != "docker.io/library/b:latest":
            raise NotFoundError("no such image")
        config = {"Env": ["PATH=/bin"], "OnBuild": ["RUN x", "ENV A=1"]}
        return BaseImage(reference, Digest("sha256:" + "1" * 64), platform, {"config": config})


def dockerfile(data: bytes) -> None:
    request = PlanRequest(data, "Dockerfile", (_PLATFORM,), _PLATFORM, {"G": "given"})
    for ask in (DockerfileFrontend().plan, DockerfileFrontend().check):
        try:
            ask(request, _Resolver())
        except ImgError as err:
            _check(err)


def expansion(data: bytes) -> None:
    word, *values = _texts(data, 4)
    variables = dict(zip("abc", values, strict=True))
    for expand in cast("list[Callable[..., object]]", [expand_word, expand_words, expand_heredoc]):
        try:
            expand(word, variables)
        except Fault:
            pass
    expand_for_display(word, variables)


def patterns(data: bytes) -> None:
    pattern, value, text = _texts(data, 3)
    try:
        made = Pattern(pattern)
    except Fault:
        return
    for flag in (False, True):
        assert value.endswith(made.without_prefix(value, longest=flag))
        assert value.startswith(made.without_suffix(value, longest=flag))
        assert len(made.replaced(value, text, everywhere=flag)) <= made.growth(value, text, everywhere=flag)


def wildcards(data: bytes) -> None:
    pattern, path = _texts(data, 2)
    try:
        compile_wildcards(pattern)(path)
    except ValueError:
        pass


def ignore(data: bytes) -> None:
    text, *paths = _texts(data, 4)
    try:
        matcher = IgnoreMatcher.from_file(text, ".dockerignore")
    except DockerfileError as err:
        _check(err)
        return
    for path in paths:
        if matcher.excludes(path):
            assert matcher.rule_for(path) is not None
        matcher.may_reinclude_below(path)


def tar(data: bytes) -> None:
    reader = TarReader(io.BytesIO(data))
    try:
        for _ in reader:
            while reader.read():
                pass
    except ArchiveError as err:
        _check(err)


def documents(data: bytes) -> None:
    for parse in cast("list[Callable[..., object]]", [oci.parse_manifest_or_index, oci.parse_config, oci.load_json]):
        try:
            parse(data, name="it")
        except ImgError as err:
            _check(err)


def headers(data: bytes) -> None:
    text = data.decode("latin-1").translate({10: None, 13: None, 0: None})
    parse_challenges([text])
    retry_after_seconds(text)
    answer = SimpleNamespace(header=lambda _: text, url="https://h/v2/a/tags/list", status=206)
    for read in cast("list[Callable[[Response], object]]", [next_page, lambda it: _first_byte(it, 3, 9)]):
        try:
            read(cast("Response", answer))
        except Failure:
            pass


def references(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    is_git(text)
    is_web(text)
    reads: list[Callable[[str], Any]] = [Reference.parse, platforms.parse, lambda it: parse_address(it, {})]
    for read in reads:
        try:
            made = read(text)
        except ImgError as err:
            _check(err)
            continue
        if isinstance(made, Reference):
            assert Reference.parse(str(made)) == made


def configuration(data: bytes) -> None:
    home = _HOME.name
    places = (".config/img/config.toml", ".config/img/registries.toml", "registries.conf", ".docker/config.json")
    for place in places:
        path = Path(home, place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    environment = {"HOME": home, "CONTAINERS_REGISTRIES_CONF": os.path.join(home, "registries.conf")}
    reads: list[Callable[[], object]] = [
        lambda: Config.load(environment=environment, distro_directory=home, admin_directory=home),
        lambda: HostsConfig(environment, root=home).rules("docker.io", "library/a"),
        lambda: AuthFile(os.path.join(home, ".docker/config.json"), {}).get("docker.io", "library/a"),
    ]
    for read in reads:
        try:
            read()
        except ImgError as err:
            _check(err)


_HOME = tempfile.TemporaryDirectory(prefix="img-fuzz-")

TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        dockerfile,
        expansion,
        patterns,
        wildcards,
        ignore,
        tar,
        documents,
        headers,
        references,
        configuration,
    )
}
