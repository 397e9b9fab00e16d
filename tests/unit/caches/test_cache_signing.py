"""Signed caches: what nobody trusted signed is never used."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cache_lab import Lab
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from img_cache_local._local import LocalCache
from img_core.images import oci
from img_core.spec.errors import HostError, UsageError
from img_core.testing.results import Recorder
from img_lib_cache.document import Body, checksum, decode_body, encode_body
from img_lib_cache.signing import SigningKey, TrustedKeys


class Keys:
    """A pair of keys in files."""

    def __init__(self, directory: Path, name: str, *, ssh: bool = False) -> None:
        key = Ed25519PrivateKey.generate()
        self.private, self.public = directory / name, directory / f"{name}.pub"
        form = PrivateFormat.OpenSSH if ssh else PrivateFormat.PKCS8
        self.private.write_bytes(key.private_bytes(Encoding.PEM, form, NoEncryption()))
        encoding, public = (
            (Encoding.OpenSSH, PublicFormat.OpenSSH) if ssh else (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        self.public.write_bytes(key.public_key().public_bytes(encoding, public) + b"\n")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(LocalCache, tmp_path)


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


@pytest.mark.parametrize("ssh", [False, True], ids=["pem", "openssh"])
def test_what_a_trusted_key_signed_is_used(lab: Lab, cache: str, tmp_path: Path, ssh: bool) -> None:
    keys, records = Keys(tmp_path, "key", ssh=ssh), lab.maker.chain("a", 2)
    lab.save(records, dest=cache, sign=str(keys.private))
    assert set(lab.load(src=cache, trust=str(keys.public)).records) == set(records)
    assert set(lab.load(src=cache).records) == set(records)


def test_what_others_wrote_is_a_warning(lab: Lab, cache: str, tmp_path: Path) -> None:
    trusted, other = Keys(tmp_path, "trusted"), Keys(tmp_path, "other")
    for sign in ({}, {"sign": str(other.private)}):
        lab.save(lab.maker.chain(str(sign), 2), dest=cache, **sign)
        loaded = lab.load(src=cache, trust=str(trusted.public))
        assert loaded.records == ()
        assert all("is not signed by a trusted key" in line for line in loaded.warnings)
        assert loaded.warnings


def test_who_signs_does_not_vouch_for_strangers(lab: Lab, cache: str, tmp_path: Path) -> None:
    """What an unsigned document says is not taken over into a signed one."""
    keys, lies, ours = Keys(tmp_path, "key"), lab.maker.chain("lie", 2), lab.maker.chain("a", 2)
    lab.save(lies, dest=cache)
    lab.save(ours, dest=cache, sign=str(keys.private))
    assert set(lab.load(src=cache, trust=str(keys.public)).records) == set(ours)


def test_who_signs_keeps_what_a_trusted_colleague_signed(lab: Lab, cache: str, tmp_path: Path) -> None:
    one, two = Keys(tmp_path, "one"), Keys(tmp_path, "two")
    both = tmp_path / "both"
    both.write_bytes(one.public.read_bytes() + two.public.read_bytes())
    first, second = lab.maker.chain("a", 2), lab.maker.chain("b", 2)
    lab.save(first, dest=cache, sign=str(one.private))
    lab.save(second, dest=cache, sign=str(two.private), trust=str(both))
    assert set(lab.load(src=cache, trust=str(two.public)).records) == {*first, *second}


def test_signed_segments_survive_an_unsigned_writer(lab: Lab, cache: str, tmp_path: Path) -> None:
    keys, ours = Keys(tmp_path, "key"), lab.maker.chain("a", 2)
    lab.save(ours, dest=cache, sign=str(keys.private))
    lab.save(lab.maker.chain("b", 2), dest=cache)
    assert set(lab.load(src=cache, trust=str(keys.public)).records) == set(ours)


def test_a_signed_cache_is_not_pruned_without_its_key(lab: Lab, cache: str, tmp_path: Path) -> None:
    keys = Keys(tmp_path, "key")
    lab.save(lab.maker.chain("a", 2), dest=cache, sign=str(keys.private))
    with pytest.raises(UsageError, match="is signed and would not be afterwards"):
        lab.make(export=True, dest=cache).prune(Recorder(), max_age=1.0)
    lab.make(export=True, dest=cache, sign=str(keys.private)).prune(Recorder(), max_age=1.0)
    assert lab.load(src=cache, trust=str(keys.public)).records == ()


def test_1000_mutations_of_a_signed_cache_are_never_used(lab: Lab, tmp_path: Path) -> None:
    """Each is made with a right checksum, as somebody would who may write to the cache but has no key."""
    keys, written = Keys(tmp_path, "key"), lab.maker.chain("a", 4)
    trust = TrustedKeys.read(str(keys.public))
    value = SigningKey(str(keys.private)).sign(encode_body(Body(tuple(written))))
    assert trust.vouch_for(value)
    assert set(decode_body(value, "x").records) == set(written)
    chance = random.Random(3)
    for _ in range(1000):
        changed = json.loads(json.dumps(value))
        _mutate(changed, chance)
        if oci.canonical_json(changed) == oci.canonical_json(value):
            continue
        changed["sum"] = checksum(changed)
        assert not trust.vouch_for(changed) or set(decode_body(changed, "x").records) == set(written)


def _mutate(value: Any, chance: random.Random) -> None:
    """Change one thing somewhere in *value*, which may also be the signature."""
    places: list[tuple[Any, Any]] = []
    pending = [value]
    while pending:
        item = pending.pop()
        keys = list(item) if isinstance(item, dict) else range(len(item))
        for key in keys:
            places.append((item, key))
            if isinstance(item[key], dict | list):
                pending.append(item[key])
    container, key = chance.choice(places)
    change: Callable[[], None] = chance.choice(
        [
            lambda: container.__delitem__(key),
            lambda: container.__setitem__(key, None),
            lambda: container.__setitem__(key, _other(container[key], chance)),
            lambda: container.__setitem__(key, _other(container[key], chance)),
        ]
    )
    change()


def _other(value: Any, chance: random.Random) -> Any:
    if isinstance(value, str) and value:
        position = chance.randrange(len(value))
        return value[:position] + chance.choice("0123456789abcdef") + value[position + 1 :]
    if isinstance(value, int | float):
        return value + chance.choice([-1, 1, 1000])
    if isinstance(value, list):
        return [*value[1:], *value[:1]] if chance.randrange(2) else value[:-1]
    return {}


@pytest.mark.parametrize("name", ["sign", "trust"])
@pytest.mark.parametrize(
    "content", [None, b"", b"not a key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
def test_a_file_that_is_no_key_is_one_line(
    lab: Lab, tmp_path: Path, cache: str, name: str, content: bytes | None
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        lab.make(export=True, dest=cache, **{name: str(path)})
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


def test_a_key_of_another_kind_is_refused(lab: Lab, tmp_path: Path, cache: str) -> None:
    subprocess.run(["openssl", "genpkey", "-algorithm", "x25519", "-out", tmp_path / "key"], check=True)
    with pytest.raises(UsageError, match="is no Ed25519 private key"):
        lab.make(export=True, dest=cache, sign=str(tmp_path / "key"))


def test_without_the_package_it_says_what_to_install(
    lab: Lab, tmp_path: Path, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(HostError) as caught:
        lab.make(export=True, dest=cache, sign=str(tmp_path / "key"))
    assert caught.value.hint == "install it with `pip install img-builder[signing]`"
