"""The same inputs give the same digests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.fixtures import NewState
from harness.img import Img, write_context
from harness.steps import made

pytestmark = pytest.mark.rootless

DOCKERFILE = """\
FROM busybox
ARG WHO=world
ENV GREETING="hello $WHO" EMPTY=
WORKDIR /srv/app/deep
COPY . .
COPY d/ /srv/data/
COPY z script /etc/
COPY --chown=33:34 --chmod=751 script /usr/local/bin/
COPY <<two /srv/data/
here
two
LABEL b=2 a=1
USER www
EXPOSE 80/udp 443
CMD ["script"]
"""


def make_context(directory: Path) -> Path:
    """The same content with the same times, made in another order."""
    directory.mkdir()
    files: dict[str, bytes | str] = {"script": "#!/bin/sh\n", "d/b": "b", "d/a": "a", "z": "z" * 5000}
    write_context(directory, DOCKERFILE, dict(sorted(files.items(), reverse=directory.name == "two")))
    os.symlink("d/a", directory / "link")
    for path in directory.rglob("*"):
        os.utime(path, (1, 1_500_000_000), follow_symlinks=False)
    return directory


def test_same_inputs_in_fresh_states_give_the_same_digest(new_state: NewState, tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two", "three"):
        img = new_state(f"state-{name}").with_environment(SOURCE_DATE_EPOCH="1700000000")
        img.build(make_context(tmp_path / name)).ok()
        digests.add(img.digest("built"))
    assert len(digests) == 1


def test_another_epoch_gives_another_digest(new_state: NewState, tmp_path: Path) -> None:
    context = make_context(tmp_path / "context")
    digests = set()
    for epoch in ("1600000000", "1700000000"):
        img = new_state(f"state-{epoch}").with_environment(SOURCE_DATE_EPOCH=epoch)
        img.build(context).ok()
        digests.add(img.digest("built"))
    assert len(digests) == 2


def test_the_digest_stays_without_cache_and_after_pruning(new_state: NewState, tmp_path: Path) -> None:
    context = make_context(tmp_path / "context")
    more = "USER root\nRUN echo $GREETING > /greeting; mkdir /made\nCOPY --link d /linked/\n"
    (context / "Dockerfile").write_text(DOCKERFILE + more)
    img = new_state().with_environment(SOURCE_DATE_EPOCH="1700000000")
    output = ("-o", "type=image,name=built,rewrite-timestamp=true")
    to, source = (f"type=local,{name}={tmp_path / 'cache'}" for name in ("dest", "src"))
    digests = []
    for prune, words in (((), ()), ((), ("--no-cache",)), (("--all",), ()), ((), ("--no-cache", "--cache-to", to))):
        if prune:
            img.run("prune", "--force", *prune).ok()
        img.build(context, *output, *words).ok()
        digests.append(img.digest("built"))
    other = new_state("other").with_environment(SOURCE_DATE_EPOCH="1700000000")
    done = other.build(context, *output, "--cache-from", source).ok()
    assert made(done.stderr) == []
    digests.append(other.digest("built"))
    alone = new_state("alone").with_environment(SOURCE_DATE_EPOCH="1700000000")
    alone.build(context, *output).ok()
    digests.append(alone.digest("built"))
    assert len(set(digests)) == 1, digests


def test_an_equal_result_keeps_its_times_unless_everything_runs(img: Img, tmp_path: Path) -> None:
    """A step that gives the same files again is no new result; but who lets all steps run asks for new ones, as of BuildKit."""
    text = "FROM busybox AS first\nRUN echo x > /x\nFROM first\nRUN echo y > /y\n"
    context = write_context(tmp_path / "context", text)
    img.build(context).ok()
    digest = img.digest("built")
    again = img.build(context, "--no-cache-filter", "first").ok()
    assert img.digest("built") == digest
    assert again.stderr.count("CACHED") == 1
    img.build(context, "--no-cache").ok()
    assert img.digest("built") != digest
    assert img.build(context).ok().stderr.count("CACHED") == 2
