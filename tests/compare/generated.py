"""Dockerfiles at random, with context, ignore file and arguments: each seed gives the same build every time.

What is known to differ between img and buildah (see `compare.differences`) does not occur. A name that starts with ``d`` is always a
directory, one with ``f`` or ``i`` a file, one with ``l`` a link, so nothing can stand in the way of anything; ignore files only speak of
what starts with ``i`` or ``di``, which no COPY names, so every source is there.
"""

from __future__ import annotations

import io
import random
import tarfile
from dataclasses import dataclass, field

from compare.dockerfiles import Case
from compare.dockerfiles._case import Directory, File, Files, HardLink, Link

__all__ = ["IGNORE_LINES", "Build", "generate"]

_MODES = (0o644, 0o644, 0o600, 0o755, 0o640)
_DIRECTORY_MODES = (0o755, 0o755, 0o750, 0o711, 0o700)
_FILE_NAMES = ("f1", "f2.txt", "i1", "i2.txt", "d1/f1", "d1/f3.txt", "d1/i1", "d1/d2/f1", "d1/d2/f4", "d1/di/f5", "d1/di/i6",
               "d2/f2", "d2/d2/f6", "d2/d2/i7", "d3/d4/f7", "d3/d4/di/f8")  # fmt: skip
IGNORE_LINES = ("i1", "*/i1", "**/i1", "**/i*", "i*.txt", "d1/di", "**/di", "d?/di/i6", "*/*/i7", "/i2.txt", "d1/../i1", "i[12]*", "# no",
                 "", "  di/  ", "d3/**/di", "**/di/f*")  # fmt: skip
_BROUGHT_BACK = ("!i1", "!d1/i1", "!i2.txt")
_FILE_SOURCES = (
    "f1",
    "./f2.txt",
    "/f1",
    "../f1",
    "d1/f1",
    "d1/d2/f4",
    "d1/../d2/f2",
    "d1/f[13]*",
    "f?",
    "d*/f1",
    "d3/d4/*",
    "f*",
)
_DIRECTORY_SOURCES = ("d1", "d1/", "./d2", "d1/.", "d3/d4", "d3//d4/", "d1/d2", "d?", ".", "d*", "l1")
_STAGE_SOURCES = ("/t", "/t/", "/t/d1", "/t/../t", "/etc/passwd", "/srv/data", "/srv/*", "/seen/*")
_DESTINATIONS = (
    "/t/",
    "/t/d1/",
    "/t/d1/d2/",
    "/x/",
    "./",
    "d1/",
    "../",
    "/x/d1/../",
    "/n/d1/d2//",
    "$E1/",
    "/x/${A1:-d1}/",
)
_TOPS = ("/t", "/t/d1", "/t/d1/d2", "/t/d2", "/x", "/w")
_COMMANDS = ("mkdir -p {d}", "mkdir -p {d} && echo {n} > {d}/f1", "echo {n} > {f}", "echo {n} >> {f}", "rm -rf {d}", "rm -f {f}",
             "mv {f} {g}", "ln -f {f} {g}", "ln -sfn {t} {l}", "cp -a {f} {g}", "chmod {m} {f}", "chmod {m} {d}", "chown -h {n}:{n} {f}",
             "chown {n}:{n} {d}", "touch -d @{n} {f}", "rmdir {d}", "rm -f {l}")  # fmt: skip
_CONFIG = ('CMD ["a", "$E1"]', "CMD echo $E1", 'ENTRYPOINT ["/bin/sh"]', "EXPOSE 80", "EXPOSE 53/udp", "STOPSIGNAL 9",
           "LABEL l1=$E1 l2='a b'", "LABEL l3=\"$E2 ${A1:-none}\"", "USER www", "USER 33:34", "USER 0", "MAINTAINER me")  # fmt: skip
_WORDS = ("d1", "d2", "'d 1'", '"$E1"', "${E2:-d2}", "${A1:+d1}", "$A2", "x$G1", "${nothing}d1", "a\\ b")


@dataclass(slots=True)
class Build:
    """A build that may still be changed: *lines* of the Dockerfile, *files* of the context, *ignore* lines, build arguments."""

    lines: list[str]
    files: dict[str, str | bytes | File | Directory | Link | HardLink]
    ignore: list[str] = field(default_factory=list)
    args: dict[str, str] = field(default_factory=dict)

    def case(self) -> Case:
        """Return it in the form of the comparison."""
        files: Files = {**self.files, ".dockerignore": "".join(f"{line}\n" for line in self.ignore)}
        return Case("\n".join(self.lines) + "\n", files, build_args=self.args, secrets={"s": "secret"})


def generate(seed: int) -> Build:
    """Return the build of *seed*."""
    chance = random.Random(seed)
    build = Build([], _context(chance))
    if chance.random() < 0.7:
        build.ignore = chance.sample(IGNORE_LINES, k=chance.randint(1, 5)) + chance.sample(
            _BROUGHT_BACK, k=chance.choice((0, 0, 1, 2))
        )
    build.args = {name: chance.choice(("d1", "d2", "")) for name in ("A1", "A2", "G1") if chance.random() < 0.4}
    build.lines += (
        chance.sample(("ARG BASE=busybox", "ARG G1=d1", "ARG G2=${G1}x"), k=3)
        if chance.random() < 0.5
        else ["ARG BASE=busybox"]
    )
    stages: list[str] = []
    for number in range(chance.choice((1, 1, 2, 2, 3))):
        build.lines += _Stage(chance, number, stages).lines()
        stages.append(f"s{number}")
    return build


def _context(chance: random.Random) -> dict[str, str | bytes | File | Directory | Link | HardLink]:
    files: dict[str, str | bytes | File | Directory | Link | HardLink] = {}
    for name in ("d1", "d1/d2", "d1/di", "d2", "d2/d2", "d3", "d3/d4", "d3/d4/di", "d1/d9"):
        files[name] = Directory(chance.choice(_DIRECTORY_MODES))
    for name in _FILE_NAMES:
        files[name] = File(f"{name} {chance.randrange(9)}\n" * chance.choice((0, 1, 1, 300)), chance.choice(_MODES))
    for name in ("d1/f8", "d1/d2/f9", "d2/f8"):
        if chance.random() < 0.5:
            files[name] = HardLink(chance.choice(("d1/f1", "d1/d2/f4", "d2/f2")))
    files["l1"] = Link(chance.choice(("d1", "d2", "d1/d2")))
    for name in ("d1/l2", "d2/d2/l3"):
        files[name] = Link(chance.choice(("f1", "../f1", "/etc/passwd", "nowhere", "d2")))
    files["a.tar"] = _archive(chance)
    return files


def _archive(chance: random.Random) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in chance.sample(("d1", "d1/d2", "d5", "d1/f1", "d5/f1", "f9", "d1/d2/f2"), k=4):
            member = tarfile.TarInfo(name)
            directory = name.rpartition("/")[2].startswith("d")
            member.type = tarfile.DIRTYPE if directory else tarfile.REGTYPE
            member.mode = chance.choice(_DIRECTORY_MODES if directory else _MODES)
            member.uid, member.gid, member.mtime = chance.randrange(99), chance.randrange(99), chance.randrange(1 << 30)
            member.size = 0 if directory else len(name)
            archive.addfile(member, None if directory else io.BytesIO(name.encode()))
    return buffer.getvalue()


class _Stage:
    """One stage. Its arguments are those that it declares itself: buildah gives none of a parent's to its child."""

    def __init__(self, chance: random.Random, number: int, earlier: list[str]) -> None:
        self.chance = chance
        self.number = number
        self.earlier = earlier

    def lines(self) -> list[str]:
        chance = self.chance
        base = chance.choice((*self.earlier, "busybox", "${BASE}", "$BASE"))
        names = " ".join(f"{name}=${name}" for name in ("E1", "E2"))
        lines = [
            f"FROM {base} AS s{self.number}",
            "USER 0",
            "RUN mkdir -p /t/d1 /x /w/d1 /seen",
            "WORKDIR /w",
            "ENV E1=/t",
        ]
        for _ in range(chance.randint(2, 6)):
            lines += chance.choice(
                (
                    self._copy,
                    self._copy,
                    self._copy,
                    self._run,
                    self._run,
                    self._scope,
                    self._scope,
                    self._mount,
                    self._config,
                )
            )()
        return [
            *lines,
            "USER 0",
            f'RUN echo "{names} $PWD" > /seen/last{self.number}; find /t /x /w | sort > /seen/all',
        ]

    def _run(self) -> list[str]:
        return [f"RUN exec 2> /dev/null; {'; '.join(self._change() for _ in range(self.chance.randint(1, 6)))}; true"]

    def _change(self) -> str:
        chance = self.chance

        def place(kind: str) -> str:
            return f"{chance.choice(_TOPS)}/{chance.choice((f'{kind}1', f'{kind}2', f'{kind}3'))}"

        target = chance.choice(("f1", "../f1", "/t/d1", "nowhere"))
        mode = chance.choice(("700", "600", "511", "1755", "755"))
        return chance.choice(_COMMANDS).format(
            d=place("d"), f=place("f"), g=place("f"), l=place("l"), t=target, n=chance.randrange(1, 60000), m=mode
        )

    def _copy(self) -> list[str]:
        chance = self.chance
        flags = []
        if chance.random() < 0.3:
            flags.append(f"--chown={chance.choice(('33:34', '5', 'www', 'www:staff', '0:staff'))}")
        destination = chance.choice(_DESTINATIONS)
        kind = chance.random()
        if kind < 0.1:
            return [f"ADD a.tar {destination}"]
        if kind < 0.3 and self.earlier:
            stage = chance.choice((*self.earlier, str(chance.randrange(len(self.earlier)))))
            flags.append(f"--from={stage}")
            sources = [chance.choice(_STAGE_SOURCES)]
        elif kind < 0.6:
            sources = chance.sample(_DIRECTORY_SOURCES, k=chance.choice((1, 1, 2)))
        elif kind < 0.7:
            sources, destination = [chance.choice(("f1", "d1/f1"))], f"{destination}f-new{chance.randrange(3)}"
        else:
            sources = chance.sample(_FILE_SOURCES, k=chance.choice((1, 1, 2, 3)))
        if chance.random() < 0.15 and destination in ("/t/", "/x/", "$E1/"):  # which are there
            flags.append(f"--chmod={chance.choice(('755', '700'))}")
        return [
            " ".join(
                [
                    chance.choice(("COPY", "COPY", "COPY", "ADD")) if "--from" not in " ".join(flags) else "COPY",
                    *flags,
                    *sources,
                    destination,
                ]
            )
        ]

    def _scope(self) -> list[str]:
        chance = self.chance
        word = chance.choice(_WORDS)
        kind = chance.random()
        if kind < 0.4:
            name = chance.choice(("A1", "A2", "G1", "G2"))
            lines = [f"ARG {name}" if chance.random() < 0.4 else f"ARG {name}={chance.choice(('d1', 'd2', 'd3'))}"]
        elif kind < 0.8:
            lines = [f"ENV {chance.choice(('E2', 'E3'))}={word}"]
        else:
            lines = [f"WORKDIR {chance.choice(('/w', '/w/d1', '/t', '..', '.'))}"]
        return [*lines, f'RUN echo "$E1,$E2,${{E3:-none}},$PWD" > /seen/s{chance.randrange(9)} || true']

    def _mount(self) -> list[str]:
        chance = self.chance
        seen = f"/seen/m{chance.randrange(9)}"
        choices = [
            f"RUN --mount=type=bind,source=d1/d2,target=/run/m cat /run/m/f1 /run/m/f4 > {seen}",
            f"RUN --mount=type=bind,source=f1,target=/run/f cat /run/f > {seen}",
            f"RUN --mount=type=cache,target=/run/c,id=c{chance.randrange(3)} echo x > /run/c/f; cat /run/c/f > {seen}",
            f"RUN --mount=type=tmpfs,target=/run/t echo x > /run/t/f; ls /run/t > {seen}",
            f"RUN --mount=type=secret,id=s wc -c < /run/secrets/s > {seen}",
        ]  # fmt: skip
        if self.earlier:
            choices.append(
                f"RUN --mount=type=bind,from={chance.choice(self.earlier)},source=/seen,target=/run/m cat /run/m/all > {seen}"
            )
        return ["USER 0", chance.choice(choices)]

    def _config(self) -> list[str]:
        return [self.chance.choice(_CONFIG)]
