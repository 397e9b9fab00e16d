"""ARG, ENV and the expansion of variables."""

from __future__ import annotations

from ._case import Case

CASES = {
    "defaults-and-values": Case(
        """
        FROM busybox
        ARG A=default
        ARG B
        ARG C=default
        ENV OUT=$A-${B:-none}-$C
        RUN echo "$A|$B|$C" > /args
        """,
        build_args={"C": "given"},
    ),
    "global-arguments": Case(
        """
        ARG IMAGE=nowhere
        ARG TAG=latest
        ARG ONLY_GLOBAL=global
        FROM ${IMAGE}:$TAG
        ENV BEFORE=[$ONLY_GLOBAL]
        ARG ONLY_GLOBAL
        ENV AFTER=[$ONLY_GLOBAL]
        ARG TAG=other
        ENV TAG_IS=$TAG
        """,
        build_args={"IMAGE": "busybox"},
    ),
    "env-beats-an-earlier-arg": Case(
        """
        FROM busybox
        ARG V=default
        ENV V=env
        ENV OUT=$V
        RUN echo $V > /v
        """,
        build_args={"V": "given"},
    ),
    "arg-after-env": Case("""
        FROM busybox
        ENV V=env
        ARG V=arg
        RUN echo $V > /v
        ENV OUT=$V
    """),
    "arg-without-value-after-env": Case("""
        FROM busybox
        ENV V=env
        ARG V
        RUN echo $V > /v
    """),
    "empty-build-argument": Case(
        """
        FROM busybox
        ARG G=default
        ENV OUT=[$G][${G:-empty}]
        RUN echo "[$G]" > /g
        """,
        build_args={"G": ""},
    ),
    "special-characters-in-a-value": Case(
        r"""
        FROM busybox
        ARG V
        ENV X=$V Y="$V"
        LABEL l=$V
        RUN echo "$V" > /v
        """,
        build_args={"V": """$HOME "q" 'single' a=b \\ # no comment"""},
    ),
    "modifiers": Case("""
        FROM busybox
        ENV SET=set EMPTY=
        ENV A=${SET:-d}${EMPTY:-d}${UNSET:-d} B=${SET:+alt}${EMPTY:+alt}${UNSET:+alt}
        ENV C=${UNSET:-${SET}/x} D="${UNSET:-two words}" E=${SET:+$SET-$SET}
    """),
    "modifiers-without-colon": Case(
        """
        FROM busybox
        ENV SET=set EMPTY=
        ENV A=[${EMPTY-d}][${UNSET-d}] B=[${EMPTY+alt}][${UNSET+alt}]
        """,
        buildah="""
        FROM busybox
        ENV SET=set EMPTY=
        ENV A=[][d] B=[alt][]
        """,
    ),
    "patterns": Case(
        r"""
        FROM busybox
        ENV P=/a/b/c.tar.gz S=foobarbaz
        ENV BASE=${P##*/} STEM=${P%%.*} DIR=${P%/*} REST=${P#/*/}
        ENV ONE=${S/ba/BA} ALL=${S//ba/BA} SLASH=${P//\//_}
        """,
        buildah="""
        FROM busybox
        ENV P=/a/b/c.tar.gz S=foobarbaz
        ENV BASE=c.tar.gz STEM=/a/b/c DIR=/a/b REST=b/c.tar.gz
        ENV ONE=fooBArbaz ALL=fooBArBAz SLASH=_a_b_c.tar.gz
        """,
    ),
    "quotes-and-escapes": Case(r"""
        FROM busybox
        ENV x=1
        ENV A='$x' B="'$x'" C="\$x" D=\$x E=a"b c"d F='it''s' G=pre${x}post H=$x$x I=$xy
        RUN echo "$A $B $C $D $E $F $G" > /out
    """),
    "values-are-not-parsed-again": Case(r"""
        FROM busybox
        ENV Q='"a' R=b\ c D='$HOME'
        ENV S=$Q T=$R U=$D
        LABEL s=$Q t=$R u=$D
    """),
    "variables-in-keys": Case("""
        FROM busybox
        ENV K=NAME
        ENV $K=v ${K}_2=w
    """),
    "variables-in-paths": Case(
        """
        FROM busybox
        ARG SRC=d
        ARG DIR=/made/here
        ENV NAME="with blank" OWNER=7
        COPY $SRC/one.txt ${DIR}/
        COPY --chown=$OWNER:8 a "$DIR/$NAME"
        WORKDIR $DIR
        COPY ${SRC}/two.txt .
        USER $OWNER
        VOLUME $DIR/volume
        """
    ),
    "expose-splits-a-value": Case("""
        FROM busybox
        ARG P="80 81/udp"
        EXPOSE $P
    """),
    "run-is-expanded-by-the-shell": Case(r"""
        FROM busybox
        ENV A="x y"
        RUN A=local; echo $A "${A}" '$A' \$A ${A#l} $((1+2)) `echo sub` > /out
        RUN ["/bin/sh", "-c", "echo $A \"$A\" > /exec"]
        RUN ["/bin/echo", "$A"]
    """),
    "arguments-of-a-parent-stage": Case(
        """
        FROM busybox AS parent
        ARG A=default
        ENV FROM_PARENT=$A
        RUN echo $A > /parent
        FROM parent
        ENV INHERITED=[$FROM_PARENT]
        ARG A
        RUN echo "[$A]" > /child
        """,
        build_args={"A": "given"},
    ),
    "path-as-an-argument": Case("""
        FROM busybox
        ARG PATH=/bin:/zz
        RUN echo $PATH > /path
    """),
    "proxies-leave-no-trace": Case(
        """
        FROM busybox
        RUN echo "$HTTP_PROXY $https_proxy $NO_PROXY" > /proxies
        """,
        build_args={"HTTP_PROXY": "http://p:1", "https_proxy": "http://p:2", "NO_PROXY": "localhost"},
    ),
    "platform-arguments": Case("""
        FROM --platform=$BUILDPLATFORM busybox
        ARG TARGETPLATFORM
        ARG TARGETOS
        ARG TARGETARCH
        ARG BUILDARCH
        ENV OUT="$TARGETPLATFORM $TARGETOS $TARGETARCH $BUILDARCH"
        RUN echo $TARGETARCH > /arch
    """),
    "several-arguments-in-a-line": Case(
        """
        FROM busybox
        ARG A=1 B=$A C
        ENV OUT="$A $B $C"
        """,
        buildah="""
        FROM busybox
        ARG A=1
        ARG B=$A
        ARG C
        ENV OUT="$A $B $C"
        """,
        build_args={"C": "3"},
    ),
    "quoted-defaults": Case("""
        FROM busybox
        ENV X=x
        ARG A="two words"
        ARG B='$X'
        ARG C=$X-"$X"
        ARG D=
        ENV OUT="$A|$B|$C|$D"
        RUN echo "$A|$B|$C|$D" > /out
    """),
    "undeclared-build-argument": Case(
        """
        FROM busybox
        ENV OUT=[$NOBODY]
        RUN echo "[$NOBODY]" > /out
        """,
        build_args={"NOBODY": "asked"},
    ),
    "argument-declared-again": Case(
        """
        FROM busybox
        ARG A=one
        RUN echo $A > /one
        ARG A=two
        RUN echo $A > /two
        FROM busybox
        COPY --from=0 /one /two /
        ARG A
        RUN echo "[$A]" > /three
        """,
    ),
    "global-argument-of-a-global-argument": Case(
        """
        ARG NAME=busy
        ARG IMAGE=${NAME}box
        FROM $IMAGE
        ARG IMAGE
        ENV IMAGE_WAS=$IMAGE
        """,
    ),
}
