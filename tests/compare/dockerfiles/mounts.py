"""RUN --mount."""

from __future__ import annotations

from ._case import Case

CASES = {
    "bind-context": Case("""
        FROM busybox
        RUN --mount=type=bind,target=/context cat /context/a > /a && ls /context/d > /list
    """),
    "bind-directory-and-file": Case("""
        FROM busybox
        RUN --mount=type=bind,source=d,target=/mnt/x/d --mount=type=bind,source=a,target=/etc/motd cat /mnt/x/d/one.txt /etc/motd > /out
    """),
    "bind-from-a-stage": Case("""
        FROM busybox AS build
        RUN mkdir /out && echo built > /out/x && chown 3:4 /out/x
        FROM busybox
        RUN --mount=type=bind,from=build,source=/out,target=/in cp -a /in/x /x && ls -ln /in/x | cut -c1-10 > /mode
    """),
    "bind-from-an-image": Case("""
        FROM busybox
        RUN --mount=type=bind,from=busybox,source=/etc,target=/other cat /other/passwd > /passwd
    """),
    "bind-writes-are-lost": Case("""
        FROM busybox
        RUN --mount=type=bind,target=/c,rw echo x > /c/new && cat /c/new > /seen
        RUN --mount=type=bind,target=/c ls /c/new > /found 2>/dev/null || echo none > /found
    """),
    "cache": Case("""
        FROM busybox
        RUN --mount=type=cache,target=/var/cache/x echo one > /var/cache/x/f
        RUN --mount=type=cache,target=/var/cache/x cat /var/cache/x/f > /seen; ls -ld /var/cache/x | cut -c1-10 > /mode
        RUN ls /var/cache/x > /left 2>/dev/null || echo gone > /left
    """),
    "cache-options": Case("""
        FROM busybox
        RUN --mount=type=cache,id=compare-options,target=/c,uid=5,gid=6,mode=0700,sharing=locked ls -lnd /c | awk '{print $1,$3,$4}' > /seen
    """),
    "tmpfs": Case("""
        FROM busybox
        RUN --mount=type=tmpfs,target=/srv ls -A /srv > /inside && touch /srv/lost
        RUN test ! -e /srv/lost && echo gone > /gone
    """),
    "secret": Case(
        """
        FROM busybox
        RUN --mount=type=secret,id=token wc -c < /run/secrets/token > /size; stat -c '%a %u' /run/secrets/token > /mode
        RUN --mount=type=secret,id=token,target=/etc/token,mode=0440,uid=3,gid=4 stat -c '%a %u %g' /etc/token > /mode2
        RUN test ! -e /run/secrets/token && echo gone > /gone
        """,
        secrets={"token": "very secret"},
    ),
    "target-in-the-working-directory": Case(
        """
        FROM busybox
        WORKDIR /w
        RUN --mount=type=bind,source=d,target=sub ls sub > list
        """,
        buildah="""
        FROM busybox
        WORKDIR /w
        RUN --mount=type=bind,source=d,target=/w/sub ls sub > list
        """,
    ),
    "several": Case("""
        FROM busybox
        RUN --mount=type=tmpfs,target=/t --mount=type=bind,source=d,target=/t/d --mount=type=cache,target=/t/c \\
            cp /t/d/one.txt /t/c/ && ls /t > /seen
    """),
    "over-an-existing-file": Case("""
        FROM busybox
        RUN --mount=type=bind,source=a,target=/etc/passwd cat /etc/passwd > /seen
    """),
}
