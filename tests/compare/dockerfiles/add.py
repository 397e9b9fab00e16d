"""ADD: archives from the context, files from the web."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile

from ._case import Case, Files


def archive(*members: tuple[str, dict[str, object]]) -> bytes:
    """Return a tar of *members*: a name and fields of `tarfile.TarInfo`; ``text`` is the content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as out:
        for name, fields in members:
            member = tarfile.TarInfo(name)
            text = str(fields.get("text", "")).encode()
            member.size, member.mtime = len(text), 1_200_000_000
            for key, value in fields.items():
                if key != "text":
                    setattr(member, key, value)
            out.addfile(member, io.BytesIO(text))
    return buffer.getvalue()


def directory(mode: int, owner: int, **fields: object) -> dict[str, object]:
    return {"type": tarfile.DIRTYPE, "mode": mode, "uid": owner, "gid": owner + 1, **fields}


def link(target: str, kind: bytes = tarfile.SYMTYPE) -> dict[str, object]:
    return {"type": kind, "linkname": target, "mode": 0o777}


SOME = archive(
    ("top", directory(0o750, 3, mtime=1000)),
    ("top/file", {"text": "12345", "mode": 0o4711, "uid": 4, "gid": 5}),
    ("top/sub", directory(0o1777, 0)),
    ("top/sub/other", {"text": "x", "mode": 0o600, "mtime": 86400}),
    ("top/link", link("file")),
    ("top/abs", link("/etc/passwd")),
    ("top/hard", {"type": tarfile.LNKTYPE, "linkname": "top/file", "mode": 0o4711, "uid": 4, "gid": 5}),
    ("top/pipe", {"type": tarfile.FIFOTYPE, "mode": 0o622}),
)
FILES: Files = {
    "some.tar": SOME,
    "some.tar.gz": gzip.compress(SOME, mtime=0),
    "some.tar.bz2": bz2.compress(SOME),
    "some.tar.xz": lzma.compress(SOME),
    "named-otherwise": gzip.compress(SOME, mtime=0),
    "text.gz": gzip.compress(b"text", mtime=0),
    "fake.tar": "no tar at all",
    "empty.tar.gz": "",
    "dir/inner.tar": SOME,
    "a": "a",
}

CASES = {
    "archives": Case(
        """
        FROM busybox
        ADD some.tar /plain/
        ADD some.tar.gz /gzip
        ADD some.tar.bz2 /bzip2/new
        ADD some.tar.xz /xz/
        ADD named-otherwise /named/
        """,
        FILES,
    ),
    "several-archives": Case(
        """
        FROM busybox
        ADD some.tar a some.tar.gz /x/
        """,
        FILES,
    ),
    "not-unpacked": Case(
        """
        FROM busybox
        ADD text.gz /x/
        ADD fake.tar /x/
        ADD empty.tar.gz /x/renamed
        ADD dir /dir
        COPY some.tar some.tar.gz /x/
        """,
        FILES,
    ),
    "archive-with-owner": Case(
        """
        FROM busybox
        ADD --chown=9:10 some.tar /x/
        """,
        FILES,
    ),
    "archive-into-an-existing-directory": Case(
        """
        FROM busybox
        RUN mkdir -m 1777 -p /x/top && echo old > /x/top/file && echo keep > /x/top/keep && chown 50 /x/top
        ADD some.tar /x
        """,
        FILES,
    ),
    "archive-into-the-root": Case(
        """
        FROM scratch
        ADD root.tar.gz /
        CMD ["/bin/true"]
        """,
        {
            "root.tar.gz": gzip.compress(
                archive(("./", directory(0o755, 0)), ("./bin", directory(0o755, 0)), ("./bin/true", {"text": "true", "mode": 0o755}),
                        ("./etc/passwd", {"text": "root:x:0:0::/:\n"}), ("./tmp", directory(0o1777, 0))),
                mtime=0,
            )
        },
    ),
    "archive-replaces-links-and-files": Case(
        """
        FROM busybox
        RUN mkdir /x && ln -s /srv /x/top && ln -s nowhere /x/plain && mkdir /x/dir-to-file
        ADD some.tar /x/
        ADD more.tar /x/
        """,
        {**FILES, "more.tar": archive(("plain", {"text": "p"}), ("dir-to-file", {"text": "f"}))},
    ),
    "archive-with-odd-names": Case(
        """
        FROM busybox
        ADD odd.tar /x/
        """,
        {
            "odd.tar": archive(
                ("/absolute", {"text": "1"}), ("./dotted//slashes/", directory(0o700, 1)), ("dotted/slashes/f", {"text": "2"}),
                ("ünï " + "n" * 150, {"text": "3"}), ("d" * 90 + "/" + "e" * 90 + "/f", {"text": "4"}), ("twice", {"text": "old"}),
                ("twice", {"text": "new", "mode": 0o600}),
            )
        },
    ),
    "archive-by-a-user-with-a-workdir": Case(
        """
        FROM busybox
        WORKDIR /w
        USER www
        ADD some.tar.gz .
        ADD a ./a
        """,
        FILES,
    ),
    "files-as-copy": Case("""
        FROM busybox
        ADD a /x/
        ADD d/*.txt b /x/
        ADD --chown=3:4 d /d
        ADD --chmod=600 a /mode
        ADD link-to-a /link
    """),
    "archive-of-large-ids-and-attributes": Case(
        """
        FROM busybox
        ADD ids.tar /x/
        """,
        {
            "ids.tar": archive(
                ("high", {"text": "1", "uid": 60000, "gid": 61000}),
                ("attribute", {"text": "2", "pax_headers": {"SCHILY.xattr.user.note": "kept"}}),
            )
        },
    ),
    "from-the-web": Case(
        """
        FROM busybox
        ADD http://web/file.txt?x=1 /x/
        ADD http://web/file.txt /named
        ADD --chown=3:4 http://web/old /y/
        ADD http://web/some.tar.gz /z/
        """,
        pages={
            "/file.txt?x=1": (b"query", "Tue, 01 Jan 2019 00:00:00 GMT"),
            "/file.txt": (b"file", "Tue, 01 Jan 2019 00:00:01 GMT"),
            "/old": (b"old", "Thu, 01 Jan 1998 00:00:00 GMT"),
            "/some.tar.gz": (gzip.compress(SOME, mtime=0), "Tue, 01 Jan 2019 00:00:02 GMT"),
        },
    ),
}  # fmt: skip
