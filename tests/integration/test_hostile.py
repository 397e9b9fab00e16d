"""Base images and Dockerfiles that want to write or read outside: nothing outside changes, and nothing of it gets inside."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.bases import busybox_root, write_oci_archive
from harness.img import Img, write_context
from img_core.testing import archives
from img_core.testing.archives import END, directory, entry, hard_link, symlink
from img_core.testing.trees import fingerprint

pytestmark = pytest.mark.rootless

#: No digest, name or content of a test can contain this by accident.
SECRET = "outside-only-4e1a9c"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that nothing may touch or read, in a place that relative paths reach as well."""
    canary = tmp_path / "canary"
    (canary / "directory").mkdir(parents=True)
    (canary / "file").write_text(SECRET)
    (canary / "empty").mkdir()
    (canary / "passwd").write_text("joe:x:7:7::/:/bin/sh\n")
    return canary


@pytest.fixture
def untouched(tmp_path: Path, outside: Path, img: Img) -> Callable[[], None]:
    """Give a check that the canary is as it was, that beside the state nothing new appeared, and that no secret got in."""
    before = fingerprint(str(outside), changes=True)
    names = {path.name for path in tmp_path.iterdir()} | {"context", "out.tar", "base.tar", "hostile.tar"}

    def check() -> None:
        assert fingerprint(str(outside), changes=True) == before
        assert {path.name for path in tmp_path.iterdir()} <= names
        assert not Path("/evil").exists()
        assert not Path("/tmp/evil").exists()

    return check


def hostile_layers(outside: bytes) -> dict[str, bytes]:
    """Return layers that try to leave the root, by name."""
    up = b"../" * 12
    return {
        "dot-dot file": entry(up.rstrip(b"/") + b"/tmp/evil", b"x"),
        "dot-dot in the middle": entry(b"a/" + up + b"tmp/evil", b"x"),
        "absolute name": entry(outside + b"/evil", b"x"),
        "write through an absolute symlink": symlink(b"s", outside) + entry(b"s/evil", b"x"),
        "write through a relative symlink": symlink(b"s", up + outside.lstrip(b"/")) + entry(b"s/evil", b"x"),
        "overwrite through a symlink": symlink(b"s", outside + b"/file") + entry(b"s", b"x"),
        "directory through a symlink": symlink(b"s", outside) + directory(b"s/evil", 0o777),
        "mode through a symlink": symlink(b"s", outside) + directory(b"s/", 0o777),
        "hard link to the outside": hard_link(b"l", outside + b"/file"),
        "hard link by dot-dot": hard_link(b"l", up + outside.lstrip(b"/") + b"/file"),
        "hard link through a symlink": symlink(b"s", outside) + hard_link(b"l", b"s/file"),
        "whiteout through a symlink": symlink(b"s", outside) + entry(b"s/.wh.file"),
        "opaque through a symlink": symlink(b"s", outside) + entry(b"s/.wh..wh..opq"),
        "whiteout of dot-dot": entry(b"d/.wh..."),
        "whiteout by dot-dot": entry(up + outside.lstrip(b"/") + b"/.wh.file"),
        "root becomes a symlink": symlink(b"./", outside) + entry(b"evil", b"x"),
        "symlink replaces a directory of the base": symlink(b"etc", outside) + entry(b"etc/evil", b"x"),
    }


@pytest.mark.parametrize("backend", ["overlayfs", "native"])
@pytest.mark.parametrize("case", sorted(hostile_layers(b"/x")))
def test_layer_of_a_base_stays_inside_or_is_refused_in_one_line(
    img: Img, tmp_path: Path, outside: Path, untouched: Callable[[], None], backend: str, case: str
) -> None:
    layer = hostile_layers(os.fsencode(outside))[case] + END
    archive = write_oci_archive(tmp_path / "hostile.tar", [busybox_root(), layer], name="localhost/hostile:1")
    loaded = img.run("load", "-i", archive)
    if loaded.returncode == 0:
        context = tmp_path / "context"
        context.mkdir()
        write_context(
            context,
            f"FROM localhost/hostile:1\nRUN cat /s/file /l {outside}/file /etc/file; true\nRUN echo > /tmp/ok || true\n",
        )
        done = img.with_flags("-b", backend).build(context)
        assert SECRET not in done.stderr
        if done.returncode:
            done.refused(1)
    else:
        loaded.refused(loaded.returncode)
    untouched()


DESTINATIONS = {
    "COPY to dot-dot": "COPY a ../../../../../../../../../../{out}/evil",
    "COPY to an absolute path": "COPY a {out}/evil",
    "COPY over a canary path": "COPY a {out}/file",
    "COPY through a link": "RUN ln -s {out} /s\nCOPY a /s/evil",
    "COPY directory through a link": "RUN ln -s {out} /s\nCOPY . /s/",
    "COPY over a link": "RUN ln -s {out}/file /s\nCOPY a /s",
    "COPY through a relative link": "RUN ln -s ../../../../../../../../..{out} /s\nCOPY a /s/evil",
    "COPY with chown through a link": "RUN ln -s {out} /s\nCOPY --chown=1:1 --chmod=777 a /s/file",
    "WORKDIR dot-dot": "WORKDIR ../../../../../../../../../..{out}/evil\nRUN echo x > evil",
    "WORKDIR through a link": "RUN ln -s {out} /s\nWORKDIR /s/evil\nRUN echo x > evil",
    "WORKDIR is a link": "RUN ln -s {out} /s\nWORKDIR /s\nRUN cat file; echo x > evil || true",
    "ADD archive through a link": "RUN ln -s {out} /s\nADD bad.tar /s/",
    "ADD hostile archive": "ADD bad.tar /",
    "ADD archive to dot-dot": "ADD bad.tar ../../../../../../../../{out}",
    "COPY --from through a link": "RUN ln -s {out} /s\nFROM busybox\nCOPY --from=0 /s/file /stolen\nRUN cat /stolen",
    "COPY --from a link": "RUN ln -s {out}/file /s\nFROM busybox\nCOPY --from=0 /s /stolen\nRUN cat /stolen",
    "COPY --from dot-dot": "FROM busybox\nCOPY --from=0 ../../../../../../..{out}/file /stolen\nRUN cat /stolen",
    "COPY source dot-dot": "COPY ../canary/file /stolen\nRUN cat /stolen",
    "COPY source absolute": "COPY {out}/file /stolen\nRUN cat /stolen",
    "COPY source link": "COPY link/file /stolen\nRUN cat /stolen",
    "COPY source link itself": "COPY link-to-file /stolen\nRUN cat /stolen",
    "COPY source wildcard": "COPY link*/f* /stolen/\nRUN cat /stolen/*",
    "bind mount source dot-dot": "RUN --mount=type=bind,source=../canary,target=/mnt cat /mnt/file",
    "bind mount source link": "RUN --mount=type=bind,source=link,target=/mnt cat /mnt/file",
    "bind mount target link": "RUN ln -s {out} /s\nRUN --mount=type=bind,target=/s,rw echo x > /s/evil",
    "tmpfs on a link": "RUN ln -s {out} /s\nRUN --mount=type=tmpfs,target=/s/empty echo x > /s/empty/evil",
    "cache id like a path": "RUN --mount=type=cache,id=../../../canary,target=/c cat /c/file; echo x > /c/evil",
    "mount over a proc path": "RUN --mount=type=bind,target=/proc/self cat /proc/self/a || true",
    "step looks through proc": "RUN cat /proc/1/root{out}/file /proc/1/cwd/file || true",
    "step climbs out": "RUN cd / && cat ../../../../../..{out}/file || true",
    "etc is a link": "{links}\nRUN echo x > /etc/evil; echo x > /tmp/evil; true\nRUN true",
    "everything is a link": "{links}\nCOPY more-links/ /\nRUN true",
    "USER from a linked passwd": "{links}\nUSER joe\nRUN id",
    "chown from a linked passwd": "{links}\nCOPY --chown=joe a /a",
    "dev becomes a link": "RUN rm -rf /dev /proc /sys; ln -s {out} /dev; ln -s {out} /proc; ln -s {out} /sys; true\nRUN true",
}

#: A root whose directories all lead outside.
_LINKS = "FROM scratch\nCOPY links/ /\nCOPY --from=busybox /bin /bin"


@pytest.mark.parametrize("case", DESTINATIONS)
def test_dockerfile_stays_inside_or_is_refused_in_one_line(
    img: Img, tmp_path: Path, outside: Path, untouched: Callable[[], None], case: str
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    text = "FROM busybox\n" + DESTINATIONS[case].format(out=outside, links=_LINKS) + "\n"
    write_context(context, text, {"a": "a"})
    (context / "link").symlink_to(outside)
    for link in ("links/etc", "links/tmp", "links/run", "more-links/dev", "more-links/proc", "more-links/sys"):
        (context / link).parent.mkdir(exist_ok=True)
        (context / link).symlink_to(outside)
    (context / "link-to-file").symlink_to(outside / "file")
    (context / "bad.tar").write_bytes(b"".join(hostile_layers(os.fsencode(outside)).values()) + END)
    done = img.build(context)
    # What a step echoes is the command line itself, which may name the canary but not its content.
    assert SECRET not in done.stderr, str(done)
    if done.returncode:
        assert done.returncode in (1, 3, 4), str(done)
        done.refused(done.returncode)
    untouched()


#: The unit tests have them all; here a few go the whole way.
SOME_REFUSED = [case for case in archives.REFUSED if "layer-overlay" in case.modes][::6]


@pytest.mark.parametrize("case", SOME_REFUSED, ids=str)
def test_refused_archive_makes_no_image_and_no_traceback(
    img: Img, tmp_path: Path, outside: Path, untouched: Callable[[], None], case: archives.Case
) -> None:
    archive = tmp_path / "base.tar"
    archive.write_bytes(case.make(os.fsencode(outside)))
    done = img.run("import", archive, "localhost/imported:1")
    assert "Traceback" not in done.stderr, str(done)
    if done.returncode == 0:  # only harmful when unpacked
        context = tmp_path / "context"
        context.mkdir()
        built = img.build(write_context(context, "FROM localhost/imported:1\nCOPY Dockerfile /d\n"))
        built.refused(1)
        done = img.run("rm", "localhost/imported:1").ok()
    else:
        done.refused(done.returncode)
    assert img.names() == ["docker.io/library/busybox:latest"]
    untouched()


def test_exported_directory_stays_inside_its_destination(img: Img, tmp_path: Path, outside: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    write_context(
        context, f"FROM busybox\nRUN ln -s {outside} /s && ln -s ../../../../../..{outside}/file /f && mkdir /d\n"
    )
    before = fingerprint(str(outside), changes=True)
    dest = tmp_path / "dest"
    (dest / "d").parent.mkdir()
    (dest / "d").symlink_to(outside)  # what is there already is no less hostile
    img.build(context, "-o", f"type=local,dest={dest}", tag="")
    assert fingerprint(str(outside), changes=True) == before


def test_bomb_ends_in_one_line(img: Img, tmp_path: Path) -> None:
    """A layer that says it is small in the manifest's size but inflates for ever is stopped by a limit, not by the disk."""
    context = tmp_path / "context"
    context.mkdir()
    write_context(context, "FROM busybox\nADD bomb.tar.gz /\n")
    (context / "bomb.tar.gz").write_bytes(bomb())
    done = img.build(context, timeout=120)
    done.refused(done.returncode)
    assert done.returncode != 0


def bomb() -> bytes:
    """A gzip file of a header that promises 8 EiB less one block, with a megabyte of zeros behind it."""
    return gzip.compress(entry(b"big", b"", size=(1 << 63) - 512) + bytes(1 << 20))
