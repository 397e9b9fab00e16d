"""The same Dockerfile built by img and by buildah gives the same root file system and the same configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.compare import config_differences, tree_differences
from harness.containers import Containers
from harness.fixtures import NewState
from harness.img import Img, write_context
from harness.oci import ImageArchive

pytestmark = [pytest.mark.rootless, pytest.mark.compare]

#: Left out where the two differ on purpose. As BuildKit, we give ``--chmod`` to made parents, keep the mode of directories that are there,
#: keep set-group-id of copied directories and join supplementary groups; an OCI config of buildah's has no SHELL and no HEALTHCHECK.
DOCKERFILES = {
    "commands": "RUN echo one > /one\nRUN mkdir -p /a/b/c && echo two > /a/b/c/two && chmod 640 /a/b/c/two && chmod 1777 /a",
    "owners": "RUN mkdir /o && touch /o/a /o/b /o/c && chown 33:34 /o/a && chown 65534:65534 /o/b && chown -R 1000:50 /srv",
    "set-id bits": "RUN touch /su /sg && chown 33:34 /su && chmod 4755 /su && chmod 2711 /sg && chmod 3777 /var/log",
    "links": "RUN ln -s ../no/where /dangling && ln -s /etc /abs && ln /etc/motd /etc/motd2 && cp -a /srv/data/one /srv/copied",
    "deleted files": "RUN rm /etc/motd /srv/data/two && rmdir /tmp\nRUN rm -r /var",
    "replaced directory": "RUN rm -r /srv/data && mkdir /srv/data && echo new > /srv/data/new && chmod 711 /srv/data",
    "directory becomes a file": "RUN rm -r /srv/data && echo file > /srv/data\nRUN rm /srv/data && ln -s /etc /srv/data",
    "file becomes a directory": "RUN rm /etc/motd && mkdir /etc/motd && touch /etc/motd/x",
    "deleted and made again": "RUN rm /etc/motd\nRUN echo again > /etc/motd\nRUN rm -r /srv && mkdir -p /srv/data && touch /srv/data/one",
    "hard links across steps": "RUN ln /srv/data/one /srv/data/third\nRUN echo changed > /srv/data/hard\nRUN rm /srv/data/hard",
    "fifo and odd names": "RUN mkfifo -m 622 /pipe && touch '/with space' '/new\\nline' /-dash '/ünï' && mkdir /.hidden",
    "many files": "RUN mkdir /many && cd /many && seq 300 | xargs touch && ls | head -150 | xargs rm",
    "copy file and directory": "COPY a /\nCOPY a /renamed\nCOPY a /made/dir/\nCOPY d /d\nCOPY d/ /e/\nCOPY . /all/",
    "copy with owner and mode": "COPY --chown=33:34 a d/x /c/\nCOPY --chown=www:staff d /named\nCOPY --chmod=0600 a /srv/mode",
    "copy over files": "RUN mkdir -p /d/deep && chmod 750 /d/deep && echo old > /d/x && echo keep > /d/keep\nCOPY d/ /d/\nCOPY a /etc/motd",
    "copy links": "COPY link-to-a /l/\nCOPY d/link-up /l/up\nCOPY d /with-links",
    "copy wildcards": "COPY d/?  /q/\nCOPY d/*.txt a /w/",
    "copy through a link": "RUN mkdir /real && ln -s /real /alias\nCOPY a /alias/\nCOPY d/ /alias/d/",
    "ignore file": "COPY . /ctx/",
    "add archive": "ADD some.tar /unpacked/\nADD some.tar.gz /un/packed\nCOPY some.tar /not/unpacked.tar",
    "stages": "RUN mkdir /out && echo built > /out/x && ln /out/x /out/y && chown 7:8 /out/x\n"
    "FROM busybox AS second\nCOPY --from=0 /out /from0\nCOPY --from=first /out/x /x\nRUN cat /x > /y\n"
    "FROM second\nCOPY --from=second /y /z",
    "scratch": "RUN true\nFROM scratch\nCOPY --from=first /bin/busybox /bin/busybox\nCOPY d /\nENV A=1\nCMD [\"/bin/busybox\"]",
    "workdir": "WORKDIR /w/x\nRUN touch here\nWORKDIR y\nCOPY a .\nRUN pwd > where\nWORKDIR ../../z\nRUN touch there",
    "user": "RUN mkdir -m 777 /u\nUSER www\nRUN id -u > /u/www; id -g >> /u/www; touch /u/mine\n"
    "USER 55:66\nRUN id -u > /u/ids; id -g >> /u/ids; touch /u/theirs",
    "arguments": 'ARG A=default\nARG B\nENV C=$A-${B:-none} D="two words"\nRUN echo $A $B $C > /args\n'
    'ENV C=${C}more E=$D\nRUN echo "$C|$E" >> /args',
    "metadata": 'LABEL a=1 b="two words"\nLABEL a=3\nEXPOSE 80 53/udp\nVOLUME /data /more\nUSER 5\n'
    'ENTRYPOINT ["/bin/sh", "-c"]\nCMD ["echo $0"]\nSTOPSIGNAL SIGINT\nWORKDIR /srv',
    "shell form": "RUN false || echo fine > /fine\nENTRYPOINT exec top -b\nCMD echo hi",
    "umask and times": "RUN umask 077 && mkdir /private && touch /private/file && touch -d @86400 /old",
    "environment of a step": "ENV X=1\nRUN env | grep -v -e HOSTNAME -e SHLVL -e PWD -e container | sort > /env; umask > /umask",
}  # fmt: skip


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory, seed: Path) -> Img:
    """One state for all of them: what they share is built once."""
    maker = NewState(tmp_path_factory.mktemp("compare"), seed)
    yield maker()
    maker.close()


@pytest.fixture(scope="module")
def buildah(containers: Containers, busybox_archive: Path) -> Containers:
    containers.take(busybox_archive, "docker.io/library/busybox:latest")
    return containers


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory, busybox_archive: Path) -> Path:
    directory = tmp_path_factory.mktemp("context")
    files: dict[str, bytes | str] = {
        "a": "a\n", "d/x": "x" * 5000, "d/y": "", "d/one.txt": "1", "d/two.txt": "2", "d/deep/er/z": "z", "ignored/f": "f",
        "ignored/kept": "k", "sub/also.tmp": "t", ".dockerignore": "# no\nignored/*\n!ignored/kept\n**/*.tmp\n",
    }  # fmt: skip
    write_context(directory, "", files)
    (directory / "link-to-a").symlink_to("a")
    (directory / "d/link-up").symlink_to("../a")
    (directory / "d/x").chmod(0o751)
    (directory / "d/deep").chmod(0o750)
    os.link(directory / "d/x", directory / "d/x-again")
    for suffix in ("", ".gz"):
        make_archive(directory / f"some.tar{suffix}", suffix)
    return directory


def make_archive(path: Path, suffix: str) -> None:
    import io
    import tarfile

    with tarfile.open(path, "w:gz" if suffix else "w") as archive:
        for name, kind, mode, ids in (("top", tarfile.DIRTYPE, 0o750, 3), ("top/file", tarfile.REGTYPE, 0o4711, 4)):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.uid, member.gid, member.mtime = kind, mode, ids, ids + 1, 1_000_000
            member.size = 5 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"12345"))
        link = tarfile.TarInfo("top/link")
        link.type, link.linkname = tarfile.SYMTYPE, "file"
        archive.addfile(link)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_img_and_buildah_make_the_same_image(
    builder: Img, buildah: Containers, context: Path, tmp_path: Path, name: str
) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"FROM busybox AS first\n{DOCKERFILES[name]}\n")
    builder.build(context, "-f", dockerfile, "-o", f"type=oci,dest={tmp_path}/ours.tar", tag="").ok()
    buildah.build(context, tmp_path / "theirs.tar", "-f", str(dockerfile))
    ours, theirs = ImageArchive(tmp_path / "ours.tar"), ImageArchive(tmp_path / "theirs.tar")
    differences = tree_differences(ours.tree(), theirs.tree()) + config_differences(ours.config, theirs.config)
    assert not differences, "\n".join(differences)
