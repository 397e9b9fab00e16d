"""Archives damaged by chance, without end: what a reader must neither follow out of its root nor die of."""

from __future__ import annotations

import functools
import gzip
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from img_core.testing.archives import BLOCK, END, directory, gnu_long, pax, seeds, symlink, with_checksum

__all__ = ["Mutation", "mutations"]

_NUMBERS = (b"", b"-1", b"7" * 11, b"\x80" + b"\xff" * 11, b"\xff" * 12, b"9", b"0o7", b" 12 ", b"\x80\0\0\0\0\0\0\x01")

_NUMBER_FIELDS = ((100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (329, 8), (337, 8))

_KINDS = b"01234567\0xgLKSVMDZ"


@dataclass(frozen=True, slots=True)
class Mutation:
    """A damaged archive: *label* says how to find it again, *codec* what it claims to be compressed with."""

    label: str
    data: bytes
    codec: str | None


class _Mutator:
    """Applies random damage to one archive; understands headers so that the checksum does not hide everything."""

    def __init__(self, rng: random.Random, outside: bytes) -> None:
        self.rng = rng
        self.names = (
            b"../evil", b"/abs", outside, outside + b"/file", b"..", b".", b"./", b"a/../../../evil", b"etc", b"etc/l/x",
            b"up/evil", b".wh.etc", b".wh.", b".wh..wh..opq", b"etc/.wh.f", b"x" * 100, b"\xff\xfe", b"", b"l/f", b"d/d",
        )  # fmt: skip
        self.steps = (self.number, self.kind, self.name, self.link, self.byte, self.body, self.swap, self.repeat,
                      self.drop, self.cut, self.insert, self.raw)  # fmt: skip

    def damage(self, archive: bytes) -> bytes:
        """Apply one to four steps."""
        for _ in range(self.rng.choice((1, 1, 2, 2, 3, 4))):
            blocks = [archive[at : at + BLOCK] for at in range(0, len(archive), BLOCK)] or [bytes(BLOCK)]
            archive = b"".join(self.rng.choice(self.steps)(blocks))
        return archive + self.rng.choice((END, END, END, b"", bytes(BLOCK), END + b"\x01", END * 20))

    def _headers(self, blocks: list[bytes]) -> list[int]:
        return [at for at, block in enumerate(blocks) if block[257:262] == b"ustar"] or [0]

    def _edit(self, blocks: list[bytes], position: int, data: bytes) -> list[bytes]:
        """Overwrite a part of some header and mostly make its checksum right again."""
        at = self.rng.choice(self._headers(blocks))
        block = blocks[at].ljust(BLOCK, b"\0")
        block = block[:position] + data + block[position + len(data) :]
        blocks[at] = with_checksum(block[:BLOCK]) if self.rng.random() < 0.9 else block[:BLOCK]
        return blocks

    def number(self, blocks: list[bytes]) -> list[bytes]:
        """Put nonsense into a numeric field."""
        position, width = self.rng.choice(_NUMBER_FIELDS)
        value = self.rng.choice((*_NUMBERS, b"%0*o" % (width - 1, self.rng.choice((1, 511, 512, 513, 4096, 1 << 20)))))
        return self._edit(blocks, position, value.ljust(width, b"\0")[:width])

    def kind(self, blocks: list[bytes]) -> list[bytes]:
        """Make it another type."""
        return self._edit(blocks, 156, bytes([self.rng.choice(_KINDS)]))

    def name(self, blocks: list[bytes]) -> list[bytes]:
        """Give it a hostile name."""
        return self._edit(blocks, 0, self.rng.choice(self.names)[:100].ljust(100, b"\0"))

    def link(self, blocks: list[bytes]) -> list[bytes]:
        """Let it point somewhere else, half the time as a link."""
        blocks = self._edit(blocks, 157, self.rng.choice(self.names)[:100].ljust(100, b"\0"))
        return self._edit(blocks, 156, self.rng.choice((b"1", b"2"))) if self.rng.random() < 0.5 else blocks

    def byte(self, blocks: list[bytes]) -> list[bytes]:
        """Change one byte of a header."""
        return self._edit(blocks, self.rng.randrange(BLOCK), bytes([self.rng.randrange(256)]))

    def body(self, blocks: list[bytes]) -> list[bytes]:
        """Change one byte behind a header: pax records, sparse maps, data."""
        at = min(self.rng.choice(self._headers(blocks)) + 1, len(blocks) - 1)
        block = bytearray(blocks[at].ljust(BLOCK, b"\0"))
        block[self.rng.randrange(40)] = self.rng.choice(b"0123456789 =\n,.-/\0\xffpathsize")
        blocks[at] = bytes(block)
        return blocks

    def swap(self, blocks: list[bytes]) -> list[bytes]:
        """Exchange two stretches that start at headers."""
        marks = [*self._headers(blocks), len(blocks)]
        pieces = [blocks[a:b] for a, b in itertools.pairwise(marks)]
        self.rng.shuffle(pieces)
        return [block for piece in pieces for block in piece]

    def repeat(self, blocks: list[bytes]) -> list[bytes]:
        """Say some of it again at the end."""
        at = self.rng.choice(self._headers(blocks))
        return blocks + blocks[at : at + self.rng.randrange(1, 8)]

    def drop(self, blocks: list[bytes]) -> list[bytes]:
        """Lose a block."""
        del blocks[self.rng.randrange(len(blocks))]
        return blocks

    def cut(self, blocks: list[bytes]) -> list[bytes]:
        """Lose the end."""
        whole = b"".join(blocks)
        return [whole[: self.rng.randrange(len(whole) + 1)]]

    def insert(self, blocks: list[bytes]) -> list[bytes]:
        """Put a block between others."""
        extra = self.rng.choice(
            (bytes(BLOCK), self.rng.randbytes(BLOCK), symlink(b"etc", b"/"), symlink(b"d", b".."), directory(b"f/"),
             pax({b"path": self.rng.choice(self.names)}), gnu_long(self.rng.choice(self.names)),
             gnu_long(b"deep/" * 700), pax({b"SCHILY.xattr.user.x": bytes(70_000)}))
        )  # fmt: skip
        at = self.rng.choice(self._headers(blocks))
        return [*blocks[:at], extra, *blocks[at:]]

    def raw(self, blocks: list[bytes]) -> list[bytes]:
        """Flip one bit anywhere."""
        at = self.rng.randrange(len(blocks))
        block = bytearray(blocks[at] or b"\0")
        block[self.rng.randrange(len(block))] ^= 1 << self.rng.randrange(8)
        blocks[at] = bytes(block)
        return blocks


@functools.cache
def _zeros() -> bytes:
    """A member that is a thousand times larger than it looks; right as padding, too."""
    return gzip.compress(bytes(30 << 20), mtime=0)


def _compressed(rng: random.Random, archive: bytes) -> tuple[bytes, str | None]:
    """Mostly leave it alone; else compress, and half the time damage the compressed form."""
    if rng.random() < 0.8:
        return archive, None
    half = len(archive) // 2
    data = rng.choice(
        (
            lambda: gzip.compress(archive, 1, mtime=0),
            lambda: gzip.compress(archive[:half], mtime=0) + gzip.compress(archive[half:], mtime=0),
            lambda: gzip.compress(archive, mtime=0) + _zeros(),
        )
    )()
    damage = rng.randrange(8)
    if damage == 0:
        data = data[: rng.randrange(len(data))]
    elif damage == 1:
        at = rng.randrange(len(data))
        data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    elif damage == 2:
        data += rng.choice((b"garbage", bytes(100), b"\x1f\x8b", gzip.compress(b"", mtime=0) * 500))
    return data, "gzip"


def mutations(seed: int, count: int, outside: bytes) -> Iterator[Mutation]:
    """Yield *count* damaged archives; the same *seed* and *outside* give the same ones."""
    starts = seeds(outside)
    for number in range(count):
        rng = random.Random(f"{seed}:{number}")  # noqa: S311 - reproducible, not secret
        archive = _Mutator(rng, outside).damage(rng.choice(starts))
        data, codec = _compressed(rng, archive)
        yield Mutation(f"{seed}:{number}", data, codec)
