"""With one mapped id, on Debian: package managers and other programs give files away, and the image has the owners they wanted.

No program notices: what the kernel would refuse is answered by filters, see `img_lib_containers.owner_supervisor`.
"""

from __future__ import annotations

import io
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.bases import BUSYBOX_CONFIG, busybox_root, write_oci_archive
from harness.fixtures import NewState
from harness.host import AS_ROOT, fixture_file, need
from harness.img import Img, remove_as_mapped_root, write_context
from harness.situations import POD

pytestmark = [
    pytest.mark.rootless,
    pytest.mark.slow,
    pytest.mark.skipif(AS_ROOT, reason="root has all ids"),
]

DOCKERFILE = """\
FROM debian AS work
RUN groupadd -g 4242 crew && useradd -m -u 4243 -g crew -s /bin/bash ada && useradd --system --user-group servant && id ada
RUN install -d -o ada -g crew /srv/inst && install -o www-data -g 8 -m 640 /etc/hostname /srv/inst/file
RUN mkdir -p /srv/tree/sub && touch /srv/tree/a /srv/tree/sub/b && ln -s a /srv/tree/link && mkfifo /srv/tree/pipe \\
 && chown -R ada:crew /srv/tree && chgrp -h mail /srv/tree/link && chown --from=ada:crew 5 /srv/tree/a && cp -a /srv/tree/sub /srv/copied
RUN su - ada -c 'test "$HOME" = /home/ada && test "$USER" = ada && touch ~/by-su' && su servant -s /bin/sh -c true \\
 && setpriv --reuid=33 --regid=33 --clear-groups true && chroot --userspec=33:33 / true
ADD files.tar /srv/added
COPY files.tar owned.deb /tmp/
RUN mkdir /srv/unpacked && tar -C /srv/unpacked --same-owner -xpf /tmp/files.tar
RUN dpkg -i /tmp/owned.deb && dpkg -V owned && dpkg-statoverride --update --add ada crew 0750 /srv/owned/data
RUN dpkg -P owned && rm -rf /srv/owned && mkdir /repo && mv /tmp/owned.deb /repo/ && cd /repo \\
 && printf '%s\\n' "$(dpkg-deb -f owned.deb)" "Filename: ./owned.deb" "Size: $(stat -c %s owned.deb)" \\
    "SHA256: $(sha256sum owned.deb | cut -d' ' -f1)" > Packages && rm -f /etc/apt/sources.list.d/* \\
 && echo 'deb [trusted=yes] file:/repo ./' > /etc/apt/sources.list \\
 && apt-get update -q && apt-get install -qy owned && apt-get check -q && dpkg -s owned | grep -q 'ok installed'
RUN sed -i s/./x/ /srv/inst/file && passwd -l ada && usermod -s /bin/sh ada && getent group crew
USER ada
WORKDIR /srv/home
RUN echo mine > mine && mkdir inner
# setrlimit(2) of x86_64: three descriptors are in use, and there is room for three. An error, not standard input once more.
RUN perl -e '$l = pack("QQ", 3, 3); syscall(160, 7, $l) == 0 or die; exit(open(F, ">", "many") ? 1 : $! == 24 ? 0 : 2)'

FROM scratch
COPY --from=work /srv /srv
COPY --from=work /home /home
COPY --from=work /etc/shadow /etc/gshadow /etc/passwd /etc/
"""
CONTROL = """\
Package: owned
Version: 1.0
Architecture: all
Maintainer: joe <joe@example.org>
Description: files of others
"""
POSTINST = """\
#!/bin/sh
set -e
getent passwd owner >/dev/null || useradd --system --uid 877 --user-group --home-dir /srv/owned owner
chown owner:adm /srv/owned/state
"""
EXPECTED = {
    "etc/passwd": (0, 0),
    "etc/shadow": (0, 42),  # useradd, passwd and usermod rewrite it
    "etc/gshadow": (0, 42),
    "home/ada": (4243, 4242),
    "home/ada/.profile": (4243, 4242),
    "srv": (0, 0),
    "srv/inst": (4243, 4242),
    "srv/inst/file": (33, 8),
    "srv/tree": (4243, 4242),
    "srv/tree/a": (5, 4242),
    "srv/tree/link": (4243, 8),
    "srv/tree/pipe": (4243, 4242),
    "srv/tree/sub/b": (4243, 4242),
    "srv/copied/b": (4243, 4242),
    "srv/added/file": (11, 12),
    "srv/added/link": (13, 14),
    "srv/unpacked/file": (11, 12),
    "srv/unpacked/link": (13, 14),
    "srv/owned": (33, 33),
    "srv/owned/data": (4243, 4242),
    "srv/owned/state": (877, 4),
    "srv/home": (4243, 4242),
    "srv/home/mine": (4243, 4242),
    "srv/home/inner": (4243, 4242),
}


def package(directory: Path) -> bytes:
    """Return a Debian package with files of www-data, and a script that makes a user."""
    need("dpkg-deb", "fakeroot")
    tree = write_context(
        directory,
        "",
        {"DEBIAN/control": CONTROL, "DEBIAN/postinst": POSTINST, "srv/owned/data": "d", "srv/owned/state": "s"},
    )
    (tree / "Dockerfile").unlink()
    (tree / "DEBIAN/postinst").chmod(0o755)
    script = f"chown -R 33:33 {tree}/srv/owned && dpkg-deb -Zgzip -b {tree} {tree}.deb"
    subprocess.run(["fakeroot", "sh", "-c", script], check=True, capture_output=True)
    return Path(f"{tree}.deb").read_bytes()


def link_layer(name: str) -> bytes:
    """Return a layer with one link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = tarfile.SYMTYPE, "file"
        tar.addfile(member)
    return buffer.getvalue()


def archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, uid in (("file", tarfile.REGTYPE, 11), ("link", tarfile.SYMTYPE, 13)):
            member = tarfile.TarInfo(name)
            member.type, member.uid, member.gid, member.linkname = kind, uid, uid + 1, "file"
            tar.addfile(member)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Img]:
    """Give the command on a host without sub-ids, with Debian as `debian`."""
    directory = tmp_path_factory.mktemp("single")
    (directory / "home").mkdir()
    img = Img(directory / "state", directory / "home", situation=POD.but(id_tools="missing"))
    img.run("import", fixture_file("debian.tar"), "debian").ok()
    yield img
    remove_as_mapped_root(directory / "state")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("context")
    deb = package(tmp_path_factory.mktemp("package") / "owned")
    return write_context(directory, DOCKERFILE, {"files.tar": archive(), "owned.deb": deb})


@pytest.mark.parametrize("executor", ["userns", "runc", "crun"])
def test_the_image_has_the_owners_that_programs_wanted(
    debian: Img, context: Path, tmp_path: Path, executor: str
) -> None:
    img = debian.with_environment(IMG_RUNTIME=executor)
    if executor != "userns":
        need(executor)
        # An OCI runtime needs a /proc of its own.
        img = img.on(POD.but(id_tools="missing", masked_proc=False))
    name = "userns" if executor == "userns" else "runc"
    dest = tmp_path / "out.tar"
    img.build(context, "--no-cache", "--executor", name, "-o", f"type=tar,dest={dest}", tag="").ok()
    with tarfile.open(dest) as result:
        owners = {member.name: (member.uid, member.gid) for member in result}
        target = result.getmember("srv/unpacked/link").linkname
    assert {path: owners.get(path) for path in EXPECTED} == EXPECTED
    assert target == "file"


def test_links_of_an_overlay_with_several_devices_have_owners_too(new_state: NewState, tmp_path: Path) -> None:
    """So many layers are merged in two mounts, and the kernel shows what is no directory in there with devices of its own."""
    links = [link_layer(f"old{number}") for number in range(481)]
    layers = [busybox_root("sh", "chown", "ln", "mkfifo", "stat", "test", "tr"), *links]
    archive = write_oci_archive(tmp_path / "many.tar", layers, name="docker.io/library/many:1", config=BUSYBOX_CONFIG)
    img = new_state().with_environment(IMG_IDMAP="single")
    img.run("load", "-i", archive).ok()
    text = (
        "FROM many:1\nRUN chown -h 5:6 /old0 && chown -h 7:8 /old480 && ln -s x /new && mkfifo /pipe && chown -h 9:10 /new /pipe"
        " && test \"$(stat -c %u /old0 /old480 /new /pipe | tr '\\n' ' ')\" = '5 7 9 9 '\n"
    )
    write_context(tmp_path / "context", text)
    dest = tmp_path / "out.tar"
    img.build(tmp_path / "context", "--backend", "overlayfs", "-o", f"type=tar,dest={dest}", tag="").ok()
    with tarfile.open(dest) as result:
        owners = {member.name: (member.uid, member.gid) for member in result}
    found = {name: owners[name] for name in ("old0", "old480", "new", "pipe", "old1")}
    assert found == {"old0": (5, 6), "old480": (7, 8), "new": (9, 10), "pipe": (9, 10), "old1": (0, 0)}


def test_mounts_are_shown_with_the_ids_asked_for(debian: Img, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        ask = "RUN --mount=type=ssh,target=/agent,uid=3,gid=4,mode=0640 stat -c 'it is %a %u:%g' /agent"
        ask += "\nRUN --mount=type=secret,id=s,target=/s,uid=5,gid=6,mode=0440 cat /s && stat -c 'and %a %u:%g' /s"
        write_context(tmp_path, f"FROM debian\n{ask}\n", {"secret": "hidden"})
        flags = (
            "--no-cache",
            "--progress",
            "plain",
            "--ssh",
            f"default={tmp_path}/agent",
            "--secret",
            f"id=s,src={tmp_path}/secret",
        )
        built = debian.build(tmp_path, *flags, tag="").ok()
    assert "it is 640 3:4\n" in built.stderr
    assert "and 440 5:6\n" in built.stderr
