"""COPY: wildcards, directories, links, owners and modes, destinations that exist."""

from __future__ import annotations

from ._case import COMMON, Case, Directory, Fifo, File, HardLink, Link

LONG = "n" * 200

CASES = {
    "file-destinations": Case("""
        FROM busybox
        COPY a /
        COPY a /renamed
        COPY a /made/on/the/way/
        COPY a /made2/renamed
        COPY a b /several/
        COPY ["a", "b", "/json form/"]
    """),
    "directory-destinations": Case("""
        FROM busybox
        COPY d /d
        COPY d/ /slash/
        COPY d/. /dot/
        COPY d /e/f/
        COPY d/deep d/one.txt /mixed/
    """),
    "whole-context": Case("""
        FROM busybox
        COPY . /all/
        WORKDIR /w
        COPY . .
        COPY ./ ./again
    """),
    "existing-destination": Case("""
        FROM busybox
        RUN mkdir -p /d/deep /t && chmod 750 /d/deep && chmod 1777 /t && chown 5:6 /t /d/deep && echo old > /d/x && echo keep > /d/keep
        COPY d/ /d/
        COPY a b /t
        COPY a /t
    """),
    "existing-destination-keeps-its-mode": Case("""
        FROM busybox
        RUN mkdir -m 1777 /t && chown 5:6 /t
        COPY d /t/
    """),
    "file-then-into-its-directory": Case("""
        FROM busybox
        COPY a /x/
        COPY b /x
        COPY d/one.txt /x/a
    """),
    "over-files": Case("""
        FROM busybox
        COPY a /etc/motd
        COPY d/x /etc/passwd
        COPY --chmod=600 a /srv/data/two
    """),
    "over-a-hard-link": Case("""
        FROM busybox
        COPY a /srv/data/hard
    """),
    "over-a-set-id-file": Case("""
        FROM busybox
        RUN echo old > /s && chown 33:34 /s && chmod 6755 /s
        COPY a /s
    """),
    "same-file-twice": Case("""
        FROM busybox
        COPY a /x
        COPY b /x
        RUN cat /x > /seen
        COPY a /x
    """),
    "wildcards": Case("""
        FROM busybox
        COPY d/*.txt /star/
        COPY d/? /question/
        COPY d/[ot]*.txt /class/
        COPY d/[^o]*.txt /not/
        COPY *a /both/
    """),
    "wildcard-takes-dot-files": Case("""
        FROM busybox
        COPY d/* /star/
    """),
    "wildcard-flattens-directories": Case(
        """
        FROM busybox
        COPY d* /x/
        """,
        files={"d1/a": "a", "d2/b": "b", "d2/sub/c": "c", "d3": "file"},
    ),
    "wildcard-beside-a-name": Case("""
        FROM busybox
        COPY a d/*.txt /x/
    """),
    "wildcard-in-a-directory-name": Case(
        """
        FROM busybox
        COPY p*/f* /x/
        COPY */only /y/
        """,
        files={"p1/f1": "1", "p2/f2": "2", "q/f3": "3", "q/only": "o"},
    ),
    "links-as-sources": Case("""
        FROM busybox
        COPY link-to-a /l/
        COPY link-to-a /named
        COPY link-to-d /dir/
        COPY d/link-up /l/up
    """),
    "links-in-a-directory": Case(
        """
        FROM busybox
        COPY tree /tree
        """,
        files={
            "tree/abs": Link("/etc/passwd"), "tree/dangling": Link("nowhere/at/all"), "tree/dir/f": "f", "tree/to-dir": Link("dir"),
            "tree/up": Link("../../../../x"), "tree/self": Link("self"),
        },
    ),
    "links-in-the-destination": Case("""
        FROM busybox
        RUN mkdir /real && ln -s /real /alias && ln -s ../real /srv/alias && echo t > /target && ln -s target /to-file
        COPY a /alias/
        COPY d/ /srv/alias/d/
        COPY b /to-file
    """),
    "link-replaced-by-a-file": Case("""
        FROM busybox
        RUN mkdir /q && echo keep > /keep && ln -s /keep /q/one.txt && ln -s /nowhere /q/two.txt
        COPY d/ /q/
    """),
    "dangling-link-as-destination": Case("""
        FROM busybox
        RUN ln -s /made/by/copy /dangling && mkdir -p /made/by
        COPY a /dangling
    """),
    "owner": Case("""
        FROM busybox
        COPY --chown=33:34 a /one
        COPY --chown=7 a /two
        COPY --chown=www a /three
        COPY --chown=www:staff d /four
        COPY --chown=0:staff a /five
    """),
    "owner-of-made-directories": Case("""
        FROM busybox
        COPY --chown=33:34 a d/x /c/d/e/
    """),
    "owner-and-an-existing-directory": Case("""
        FROM busybox
        RUN mkdir -p /t/deep
        COPY --chown=33:34 d /t/
    """),
    "owner-is-root-for-any-user": Case("""
        FROM busybox
        USER www
        COPY a d /x/
    """),
    "mode-of-files": Case("""
        FROM busybox
        COPY --chmod=0600 a /x
        COPY --chmod=4755 b /set-id
        COPY --chmod=777 d/*.txt /srv/
    """),
    "mode-of-directories": Case("""
        FROM busybox
        RUN mkdir /x
        COPY --chmod=750 d /x
    """),
    "mode-of-made-directories": Case("""
        FROM busybox
        COPY --chmod=700 a /p/q/
    """),
    "modes-of-the-context": Case(
        """
        FROM busybox
        COPY . /x/
        """,
        files={
            "suid": File("", 0o4755), "sgid": File("", 0o2711), "sticky": File("", 0o1644), "none": File("", 0o400), "all": File("", 0o777),
            "d1": Directory(0o1777), "d2": Directory(0o700), "d3": Directory(0o555), "d4": Directory(0o755), "d4/f": "",
        },
    ),
    "set-group-id-directory": Case(
        """
        FROM busybox
        COPY . /x/
        """,
        files={"g": Directory(0o2775), "g/f": ""},
    ),
    "hard-links-in-a-directory": Case(
        """
        FROM busybox
        COPY tree /tree
        """,
        files={"tree/one": "same", "tree/two": HardLink("tree/one"), "tree/sub/three": HardLink("tree/one"), "tree/other": "same"},
    ),
    "names": Case(
        """
        FROM busybox
        COPY names /names
        COPY ["names/with blank", "/copied with blank"]
        COPY ["names/ünï→", "/ünï"]
        """,
        files={
            f"names/{name}": name
            for name in ("with blank", "ünï→", "-dash", "back\\slash", "new\nline", "$dollar", "'quote'", '"double"', "[b]", "semi;colon",
                         "*", ".wh", "..dots", "tab\there", " leading", "trailing ", "e\u0301-decomposed", "😀")
        },
    ),
    "long-names-and-paths": Case(
        f"""
        FROM busybox
        COPY long /long
        COPY {LONG} /
        RUN mv /{LONG} /{LONG[1:]} && ln -s {LONG} /link && ln /{LONG[1:]} /hard
        """,
        files={f"long/{LONG}/{LONG}/{LONG}": "deep", LONG: "file"},
    ),
    "deep-tree": Case(
        """
        FROM busybox
        COPY top /top
        RUN rm -r /top/l/l/l/l/l
        """,
        files={f"top/{'l/' * depth}f": str(depth) for depth in range(40)},
    ),
    "many-files": Case(
        """
        FROM busybox
        COPY many /many
        RUN cd /many && rm 1?? && mv 20 twenty
        """,
        files={f"many/{number}": str(number) for number in range(250)},
    ),
    "large-and-sparse-files": Case(
        """
        FROM busybox
        COPY big zeros /x/
        RUN truncate -s 3M /x/hole && echo end >> /x/hole && cat /x/big >> /x/zeros
        """,
        files={"big": bytes(range(256)) * 8000, "zeros": b"\0" * 1_500_000},
    ),
    "empty-files-and-directories": Case(
        """
        FROM busybox
        COPY . /x/
        COPY empty /y
        COPY dir /z
        """,
        files={"empty": "", "dir": Directory(0o700), "tree/inner": Directory()},
    ),
    "fifo": Case(
        """
        FROM busybox
        COPY tree /tree
        """,
        files={"tree/pipe": Fifo(0o622), "tree/f": "f"},
    ),
    "source-cannot-leave-the-context": Case("""
        FROM busybox
        COPY ../a /up
        COPY /b /root
        COPY ../../d/../d/one.txt /x/
        COPY /d/ /abs/
    """),
    "destination-dots": Case("""
        FROM busybox
        WORKDIR /w/x
        RUN true
        COPY a ..
        COPY b ./c
        COPY a ../../up/.//file
        COPY d/one.txt .
    """),
    "from-a-stage": Case("""
        FROM busybox AS build
        RUN mkdir -m 750 /out && echo x > /out/x && ln /out/x /out/y && ln -s x /out/l && chown 7:8 /out/x
        RUN chmod 4711 /out/x && mkfifo /out/p && touch -d @86400 /out/y /out
        FROM busybox
        COPY --from=build /out /all
        COPY --from=build /out/x /out/l /some/
        COPY --from=0 --chown=9:9 /out/ /owned
        COPY --from=build /etc/passwd /etc/passwd
    """),
    "from-a-stage-with-wildcards": Case("""
        FROM busybox AS build
        RUN mkdir -p /out/sub && touch /out/a.so /out/b.so /out/c.txt /out/sub/d.so
        FROM scratch
        COPY --from=build /out/*.so /lib/
        COPY --from=build /out/s* /s/
    """),
    "from-a-stage-through-links": Case("""
        FROM busybox AS build
        RUN mkdir -p /opt/v1/bin && echo tool > /opt/v1/bin/tool && ln -s /opt/v1 /opt/current && ln -s /opt/v1/bin/tool /usr/bin/tool
        FROM busybox
        COPY --from=build /opt/current/bin/tool /one
        COPY --from=build /usr/bin/tool /two
        COPY --from=build /opt/current /three
    """),
    "from-an-image": Case("""
        FROM scratch
        COPY --from=busybox /etc/passwd /etc/group /etc/
        COPY --from=busybox /srv /srv
    """),
    "from-an-image-with-a-config": Case(
        """
        FROM busybox
        COPY --from=localhost/before /w/f /f
        """,
        before="""
        FROM busybox
        ENV NOT=inherited
        ONBUILD RUN false
        WORKDIR /w
        RUN echo f > f
        """,
    ),
    "file-over-an-empty-place": Case("""
        FROM scratch
        COPY a /
        COPY a /deep/in/scratch/a
        COPY d /
    """),
    "directory-merge-keeps-others": Case("""
        FROM busybox
        RUN mkdir -p /d/deep/er && echo mine > /d/deep/er/mine && chmod 700 /d/deep/er && touch -d @5000 /d/deep
        COPY d /d
    """),
    "excluded-files": Case(
        """
        FROM busybox
        COPY --exclude=*.txt --exclude=deep d /x/
        """,
        buildah="""
        FROM busybox
        COPY d/x d/y d/.dot /x/
        """,
        files={name: entry for name, entry in COMMON.items() if "link" not in name and "again" not in name},
    ),
    "links-on-the-way-to-a-source": Case("""
        FROM busybox
        COPY link-to-d/one.txt /x/
        COPY link-to-d/*.txt link-to-d/deep /y/
        COPY link-to-d/../a /z/
    """),
    "absolute-links-stay-in-the-context": Case(
        """
        FROM busybox
        COPY abs /file
        COPY dir/abs-dir /dir
        """,
        files={"real/f": "f", "abs": Link("/real/f"), "dir/abs-dir": Link("/real")},
    ),
    "links-of-a-stage-stay-in-it": Case("""
        FROM busybox AS build
        RUN mkdir -p /opt/a/b && echo x > /opt/x && ln -s /opt/x /opt/a/abs && ln -s ../../../../opt/x /opt/a/b/clamped && ln -s a /opt/to-a
        FROM busybox
        COPY --from=build /opt/a/abs /one
        COPY --from=build /opt/a/b/clamped /two
        COPY --from=build /opt/to-a/ /three
        COPY --from=build /opt /four
    """),
    "onto-the-root": Case("""
        FROM busybox
        COPY d /
        COPY a b /
        COPY d/deep ..
    """),
    "the-dockerfile-itself": Case("""
        FROM busybox
        COPY Dockerfile /
        COPY Docker* /x/
    """),
    "group-without-a-user": Case("""
        FROM busybox
        COPY --chown=0:50 a /one
        COPY --chown=33:www a /two
        COPY --chown=root:root --chmod=0644 a /three
    """),
    "wildcards-and-links-on-the-way": Case("""
        FROM busybox
        COPY */one.txt /x/
        COPY link*/two.txt a /y/
    """),
    "to-a-volume-of-the-base": Case(
        """
        FROM localhost/before
        COPY a /data/
        COPY d /data/d
        """,
        before="""
        FROM busybox
        RUN mkdir -m 700 /data && touch /data/before
        VOLUME /data
        """,
    ),
}  # fmt: skip
