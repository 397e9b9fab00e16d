"""Instructions that only write the image configuration."""

from __future__ import annotations

from ._case import Case

CASES = {
    "env-forms": Case(r"""
        FROM busybox
        ENV A=1 B="two words" C=it\'s D='single $A' E= F="" G=a\ b
        ENV OLD form with   inner blanks
        ENV H="q\"uote" I="dollar\$A" J='a'"b"c
        RUN env | grep -E '^([A-J]|OLD)=' | sort > /env
    """),
    "env-order-and-replacement": Case("""
        FROM busybox
        ENV Z=1 Y=2 X=3
        ENV Y=two NEW=4
        ENV PATH=/opt/bin:$PATH Z=one
        RUN echo $PATH $X$Y$Z > /seen
    """),
    "env-of-the-same-line": Case("""
        FROM busybox
        ENV abc=hello
        ENV abc=bye def=$abc
        ENV ghi=$abc
    """),
    "env-special-characters": Case(r"""
        FROM busybox
        ENV HASH=a#b EQ=a=b=c SLASH=c:\\dir URL="http://h/?a=1&b=2" STAR=* SEMI=a;b PIPE=a|b
        ENV UNI=ünï→ LONE=$ SUBST=$(date) BRACE={a}
        RUN env | grep -E '^(HASH|EQ|SLASH|URL|STAR|UNI)=' | sort > /env
    """),
    "labels": Case(r"""
        FROM busybox
        LABEL a=1 b="two words" "quoted key"=3 d.e/f-g=4
        LABEL a=5 empty= quote="say \"hi\""
        LABEL old form of a label
        LABEL lines="first \
        second" after=1
    """),
    "labels-with-variables": Case("""
        FROM busybox
        ENV K=key V="a value"
        LABEL $K=$V ${K}2="<$V>" plain='$V'
    """),
    "labels-from-the-command-line": Case(
        """
        FROM busybox
        LABEL one=dockerfile two=dockerfile
        """,
        labels={"two": "command line", "three": "3"},
    ),
    "expose": Case("""
        FROM busybox
        ENV P=9000
        EXPOSE 80 53/udp 443/tcp
        EXPOSE 80 ${P} $P/udp
        EXPOSE 132/sctp
    """),
    "expose-ranges": Case("""
        FROM busybox
        EXPOSE 3000-3003
        EXPOSE 4000-4001/udp
    """),
    "volumes": Case("""
        FROM busybox
        ENV DIR=/srv
        VOLUME /data
        VOLUME ["/with blank", "/more"]
        VOLUME /x $DIR/y
    """),
    "volume-keeps-later-writes": Case("""
        FROM busybox
        RUN mkdir /data && echo before > /data/before
        VOLUME /data
        RUN echo after > /data/after
        COPY a /data/copied
    """),
    "user-words": Case("""
        FROM busybox
        ENV WHO=www
        USER $WHO
        USER ${WHO}:staff
    """),
    "stop-signal-name": Case("""
        FROM busybox
        STOPSIGNAL SIGINT
        STOPSIGNAL SIGRTMIN+3
    """),
    "stop-signal-number": Case("""
        FROM busybox
        ENV N=9
        STOPSIGNAL $N
    """),
    "healthcheck-all-options": Case("""
        FROM busybox
        HEALTHCHECK --interval=5m --timeout=3s --start-period=1m30s --retries=4 CMD test -e /ok || exit 1
    """),
    "healthcheck-exec-and-override": Case("""
        FROM busybox
        HEALTHCHECK --interval=1s CMD false
        HEALTHCHECK --timeout=500ms CMD ["/bin/true", "a b", "$X"]
    """),
    "healthcheck-none": Case("""
        FROM busybox
        HEALTHCHECK NONE
    """),
    "shell": Case("""
        FROM busybox
        SHELL ["/bin/sh", "-euc"]
        RUN echo "$-" > /flags
        CMD echo cmd
        ENTRYPOINT echo entry
        HEALTHCHECK CMD echo health
        SHELL ["/bin/busybox", "env", "FROM_SHELL=1", "/bin/sh", "-c"]
        RUN echo $FROM_SHELL > /other
    """),
    "cmd-then-entrypoint": Case("""
        FROM busybox
        CMD ["kept"]
        ENTRYPOINT ["/bin/echo", "-n"]
    """),
    "entrypoint-drops-inherited-cmd": Case("""
        FROM busybox
        ENTRYPOINT ["/bin/echo"]
    """),
    "entrypoint-of-a-child-stage": Case("""
        FROM busybox AS parent
        CMD ["dropped"]
        FROM parent
        ENTRYPOINT exec top
    """),
    "empty-cmd-and-entrypoint": Case("""
        FROM busybox AS parent
        ENTRYPOINT ["/bin/echo"]
        CMD ["a"]
        FROM parent
        ENTRYPOINT []
        CMD []
    """),
    "empty-entrypoint-drops-cmd": Case("""
        FROM busybox AS parent
        ENTRYPOINT ["/bin/echo"]
        CMD ["a"]
        FROM parent
        ENTRYPOINT []
    """),
    "last-cmd-counts": Case("""
        FROM busybox
        CMD one
        CMD ["two", "with \\"quotes\\"", "ünï", "tab\\there"]
        ENTRYPOINT first
        ENTRYPOINT ["second"]
    """),
    "cmd-that-is-not-json": Case("""
        FROM busybox
        CMD ['single', 'quotes']
        ENTRYPOINT ["trailing",]
    """),
    "maintainer": Case("""
        FROM busybox
        MAINTAINER Jane Doe <jane@example.com>
    """),
    "onbuild-is-stored": Case("""
        FROM busybox
        ONBUILD COPY . /app
        ONBUILD RUN echo $FOO && \\
            true
        ONBUILD ENV A=1
    """),
    "inherited-from-an-image": Case(
        """
        FROM localhost/before
        ENV B=child C=3
        LABEL b=child
        EXPOSE 81
        VOLUME /two
        RUN echo $A $B; pwd > /where
        """,
        before="""
        FROM busybox
        ENV A=parent B=parent
        LABEL a=parent b=parent
        EXPOSE 80
        VOLUME /one
        USER 0:0
        WORKDIR /srv
        STOPSIGNAL SIGHUP
        SHELL ["/bin/sh", "-ec"]
        HEALTHCHECK --retries=2 CMD true
        ENTRYPOINT ["/bin/echo"]
        CMD ["a", "b"]
        """,
    ),
    "overridden-from-an-image": Case(
        """
        FROM localhost/before
        USER root
        WORKDIR ../opt
        STOPSIGNAL 15
        HEALTHCHECK NONE
        CMD ["only", "cmd"]
        """,
        before="""
        FROM busybox
        USER www:staff
        WORKDIR /srv/www
        STOPSIGNAL SIGHUP
        HEALTHCHECK CMD true
        ENTRYPOINT ["/bin/echo"]
        CMD ["a", "b"]
        """,
    ),
    "scratch-with-metadata": Case("""
        FROM scratch
        LABEL a=1
        COPY a /
        CMD ["/a"]
    """),
    "workdir-forms": Case("""
        FROM busybox
        ENV DIR=/opt/dir
        WORKDIR relative
        WORKDIR ../up/./down/
        RUN pwd > /one
        WORKDIR $DIR/${UNSET:-x}
        RUN touch here
        WORKDIR "/with blank"
        RUN pwd > /two
        WORKDIR /
    """),
    "workdir-existing-and-linked": Case("""
        FROM busybox
        RUN mkdir -m 700 /there && chown 5:6 /there && ln -s /there /link
        WORKDIR /there
        WORKDIR /link/new
        RUN touch here && pwd > /where
        WORKDIR /srv/data
    """),
    "workdir-is-made-by-nobody-else": Case("""
        FROM busybox
        WORKDIR /only/workdir
    """),
    "shell-words-are-not-expanded": Case("""
        FROM busybox
        ENV A=1
        ENTRYPOINT ["sh", "-c", "echo $A ${A}"]
        CMD echo $A "$A"
        HEALTHCHECK CMD echo $A
        ONBUILD RUN echo $A
    """),
    "duplicates": Case("""
        FROM busybox
        VOLUME ["/a", "/a", "/b/"]
        VOLUME /a
        EXPOSE 80 80/tcp
        EXPOSE 80/udp
        LABEL a=1 a=2
        ENV B=1 B=2
    """),
    "upper-case-protocol": Case("""
        FROM busybox
        EXPOSE 53/UDP 80/TCP
    """),
    "values-in-quotes": Case("""
        FROM busybox
        USER "www"
        STOPSIGNAL "SIGUSR1"
        VOLUME "/quoted"
        EXPOSE "81"
        WORKDIR '/single quoted'
        RUN true
    """),
    "legacy-env-with-an-equals-sign": Case("""
        FROM busybox
        ENV A = b
        ENV B c=d
        LABEL l m=n
    """),
    "base-without-a-path": Case(
        """
        FROM localhost/before
        ENV B=2
        RUN echo $PATH > /path
        """,
        before="""
        FROM scratch
        COPY --from=busybox /bin /bin
        """,
    ),
    "names-of-the-base": Case("""
        FROM docker.io/library/busybox:latest AS one
        RUN true
        FROM docker.io/library/busybox
        COPY --from=one /etc/motd /m
    """),
    "unicode-everywhere": Case("""
        FROM busybox
        ENV NAME=ünï→😀
        LABEL "schlüssel"="wert →"
        WORKDIR /ordner
        RUN echo $NAME > $NAME
        COPY a /ü→/
        CMD ["ä", "→"]
        VOLUME /größe
    """),
}
