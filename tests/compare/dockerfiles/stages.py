"""Several stages."""

from __future__ import annotations

from ._case import Case

CASES = {
    "copies-and-bases": Case("""
        FROM busybox AS first
        RUN mkdir /out && echo built > /out/x && ln /out/x /out/y && chown 7:8 /out/x
        FROM busybox AS second
        COPY --from=0 /out /from0
        COPY --from=first /out/x /x
        RUN cat /x > /y
        FROM second
        COPY --from=second /y /z
    """),
    "stage-as-base": Case("""
        FROM busybox AS base
        ENV A=1
        WORKDIR /app
        COPY a .
        RUN echo base > base
        FROM base AS left
        RUN rm a && echo left > left
        FROM base
        ENV B=2
        COPY --from=left /app /left
        RUN echo right > right
    """),
    "target": Case(
        """
        FROM busybox AS one
        RUN echo one > /one
        FROM one AS two
        RUN echo two > /two
        FROM two AS three
        RUN false
        """,
        target="two",
    ),
    "target-in-another-case": Case(
        """
        FROM busybox AS Build
        RUN echo one > /one
        FROM busybox
        """,
        buildah="""
        FROM busybox AS build
        RUN echo one > /one
        FROM busybox
        """,
        target="build",
    ),
    "unused-stages-are-not-built": Case(
        """
        FROM busybox AS broken
        RUN false
        FROM nowhere.invalid/no/image AS missing
        FROM busybox
        RUN echo fine > /fine
        """,
        buildah="""
        FROM busybox
        RUN echo fine > /fine
        """,
    ),
    "scratch": Case("""
        FROM busybox AS first
        RUN true
        FROM scratch
        COPY --from=first /bin/busybox /bin/busybox
        COPY d /
        ENV A=1
        CMD ["/bin/busybox"]
    """),
    "run-on-scratch": Case("""
        FROM busybox AS first
        FROM scratch
        COPY --from=first /bin /bin
        COPY --from=first /etc/passwd /etc/passwd
        RUN echo x > /x && mkdir /tmp
    """),
    "names-in-any-case": Case(
        """
        FROM busybox AS Build
        RUN echo x > /x
        FROM busybox
        COPY --from=bUILD /x /y
        """,
        buildah="""
        FROM busybox AS build
        RUN echo x > /x
        FROM busybox
        COPY --from=build /x /y
        """,
    ),
    "environment-of-a-stage": Case("""
        FROM busybox AS one
        ENV A=one
        USER www
        WORKDIR /tmp
        FROM busybox AS two
        RUN echo "[$A]" > /a; id -u >> /a; pwd >> /a
        FROM one
        RUN echo "[$A]" > /tmp/a; id -u >> /tmp/a; pwd >> /tmp/a
    """),
    "chain-of-stages": Case("""
        FROM busybox AS s0
        RUN echo 0 > /n
        FROM s0 AS s1
        RUN echo 1 >> /n
        FROM s1 AS s2
        RUN echo 2 >> /n && rm /etc/motd
        FROM s2 AS s3
        COPY --from=s1 /etc/motd /etc/motd
        FROM s3
        COPY --from=s0 /n /n0
    """),
    "stage-with-the-name-of-an-image": Case("""
        FROM busybox AS tools
        RUN echo stage > /which
        FROM busybox
        COPY --from=tools /which /which
    """),
    "whiteouts-are-not-copied": Case("""
        FROM busybox AS one
        RUN mkdir /t && touch /t/a /t/b
        RUN rm /t/a
        FROM busybox
        COPY --from=one /t /t
    """),
    "attributes-of-a-stage": Case("""
        FROM busybox AS one
        RUN mkdir -m 2750 /t && mkdir -m 1777 /t/s && touch /t/s/f && chmod 6755 /t/s/f && chown 3:4 /t/s && touch -d @5555 /t/s/f /t/s
        FROM busybox
        COPY --from=one /t/ /t/
        COPY --from=one / /all/
    """),
    "linked-copies": Case(
        """
        FROM busybox AS one
        RUN echo x > /x && touch -d @5 /x
        FROM busybox
        COPY --link --from=one /x /y/
        COPY --link --chown=3:4 a /z/
        """,
        buildah="""
        FROM busybox AS one
        RUN echo x > /x && touch -d @5 /x
        FROM busybox
        COPY --from=one /x /y/
        COPY --chown=3:4 a /z/
        """,
    ),
}
