"""Byte strings from noise to nearly right Dockerfiles, the same ones for the same seed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

__all__ = ["mutated", "noise", "soup"]

WORDS = b"""FROM RUN COPY ADD ENV ARG LABEL HEALTHCHECK ONBUILD EXPOSE CMD SHELL VOLUME USER WORKDIR STOPSIGNAL MAINTAINER
ENTRYPOINT AS b scratch s1 $a ${a} ${a:-x} ${a##*/} ${a//b/c} ${a:?m} a=1 a= = " ' \\ ` [ ] ["x","y"] [1] {} <<E <<-E 3<<'E' E
--mount=type=cache,target=/c --mount=type=secret,id=s,env=S --mount=type=bind,from=s1,source=/,target=/x --mount=
--from=s1 --from=0 --from=$a --chown=1:2 --chown=u --chmod=u=rwX --chmod=0644 --link --parents --exclude=*.c --checksum=sha256:0
--platform=$BUILDPLATFORM --platform=linux/arm64 --network=none --security=insecure --interval=1s --retries=3 -- NONE none
80 80-90/tcp 1.2.3.4:80:80 9999999 / /a ./a ../../b *.txt a[0-9] https://h.example/x.tar https://h.example/r.git#v1 git@h:r ~/x
0 -1 1e3 # #check=skip=all #escape=` #syntax=docker/dockerfile:1 \xff \xc3\xa9 \xef\xbb\xbf \0 \r""".split()
KEYWORDS = WORDS[:18]
ENDS = (b"", b"", b"", b"", b" \\", b"\r", b" `")
MARKS = (b"\n", b"\\\n", b'"', b"'", b"$", b"${", b"}", b"<<E ", b"\t", b"\0", b"#")
HEADS = (
    [b"FROM b"],
    [b"# syntax=docker/dockerfile:1", b"# check=skip=all", b"ARG BASE=b", b"FROM ${BASE} AS base"],
    [b"# escape=`", b"FROM --platform=$BUILDPLATFORM b AS base", b"ARG OTHER", b"ENV NAME=x"],
    [b"FROM scratch AS base", b"FROM base"],
    [b"ARG SOURCE_DATE_EPOCH=base", b"FROM scratch AS base", b"ADD https://h.example/x.tar /", b"FROM base"],
)
INSTRUCTIONS = re.split(
    rb"\n(?=[A-Z]{3,} )",
    rb"""FROM scratch AS final
ARG VERSION="1.0" OTHER
ENV PATH=/opt/bin:$PATH NAME="a b" X='c d'
ENV name rest of the line
RUN --mount=type=cache,target=/root/.cache,sharing=locked --mount=type=secret,id=t,env=T \
  # a comment
  make VERSION=${VERSION} && \

  make install
RUN <<EOF
echo "$NAME"
EOF
RUN ["/bin/x", "a b"]
RUN --network=none --security=insecure echo $((1 << 3))
COPY --chown=1000:1000 --chmod=u=rwX,go=rX --exclude=**/*.md src/ ./dst/
COPY <<-"A" <<B /etc/conf/
	hello
	A
$NAME
B
COPY --parents --link a/./b/*.c ${NAME:-x}/
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://h.example/x.tar /x/
ADD --keep-git-dir https://h.example/r.git?tag=v1#ref:sub /g
ONBUILD COPY --from=base /a /b
HEALTHCHECK --interval=5m --timeout=3s CMD ["curl", "-f", "http://localhost/"]
LABEL org.example.a="b" c=d
EXPOSE 80/tcp 443 8000-8010
VOLUME ["/data"]
USER app:app
WORKDIR /srv/$NAME
STOPSIGNAL SIGTERM
SHELL ["/bin/bash", "-c"]
ENTRYPOINT ["/app"]
CMD serve --port 80""",
)


def noise(source: random.Random) -> bytes:
    """Return up to 300 bytes of anything, behind a good line or not."""
    data = source.randbytes(source.randrange(300))
    return (
        data
        if source.random() < 0.2
        else source.choice((b"", b"FROM b\nENV ", b"FROM b\nRUN ")) + data.replace(b"\0", b"")
    )


def soup(source: random.Random) -> bytes:
    """Return words of the language in any order, most lines starting with an instruction."""
    lines = [] if source.random() < 0.2 else [b"FROM b AS s1"]
    for _ in range(source.randrange(1, 5)):
        head = source.choice(KEYWORDS if source.random() < 0.9 else WORDS)
        words = source.choices(WORDS, k=source.randrange(5))
        lines.append(b" ".join([head, *words]) + source.choice(ENDS))
    return b"\n".join(lines)


def mutated(source: random.Random) -> bytes:
    """Return some instructions of a good Dockerfile with up to three places where bytes or words are gone, new, doubled or changed."""
    chosen = source.sample(INSTRUCTIONS, source.randrange(1, 7))
    text = bytearray(b"\n".join([*source.choice(HEADS), *chosen]))
    for _ in range(source.randrange(4)):
        place = source.randrange(len(text) + 1)
        end = min(len(text), place + source.randrange(1, 12))
        text[place:end] = source.choice(CHANGES)(source, bytes(text[place:end]))
    return bytes(text)


CHANGES: list[Callable[[random.Random, bytes], bytes]] = [
    lambda source, old: b"",
    lambda source, old: source.choice(WORDS) + old,
    lambda source, old: old * source.randrange(2, 4),
    lambda source, old: source.randbytes(len(old)),
    lambda source, old: source.choice(MARKS) + old,
    lambda source, old: old.upper(),
]
