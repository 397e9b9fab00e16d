"""What kaniko's flags say of registries, as a configuration of img (docs/reference/registries.md)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from img_core.spec.errors import UsageError
from img_core.spec.text import show

if TYPE_CHECKING:
    from img_kaniko.flags import Given

__all__ = ["own_configuration", "registries"]

_FILE = "registries.toml"
_HUB = "docker.io"

Tables = dict[str, dict[str, bool | str | list[str]]]


def registries(given: Given, environment: Mapping[str, str]) -> Tables:
    """Return the tables of ``registries.toml`` that the flags ask for. Raises UsageError."""
    tables: Tables = {}
    mirrors = given.list("registry-mirror") + _words(environment.get("KANIKO_REGISTRY_MIRROR", ""))
    if mirrors:
        scheme = "http" if given.switch("insecure-pull") else "https"
        tables.setdefault(_HUB, {})["mirrors"] = [_with_scheme(mirror, scheme) for mirror in mirrors]
    for host in given.list("insecure-registry") + given.list("skip-tls-verify-registry"):
        tables.setdefault(host, {})["insecure"] = True
    for pair in given.list("registry-certificate"):
        host, path = _pair("registry-certificate", pair)
        if path == "system-dir":  # kaniko's word for the system's own authorities
            continue
        tables.setdefault(host, {})["ca"] = os.path.abspath(path)
    for pair in given.list("registry-client-cert"):
        host, paths = _pair("registry-client-cert", pair)
        certificate, comma, key = paths.partition(",")
        if not comma:
            raise UsageError(f"`--registry-client-cert` takes HOST=CERTIFICATE,KEY, not `{show(pair)}`")
        table = tables.setdefault(host, {})
        table["client-cert"], table["client-key"] = os.path.abspath(certificate), os.path.abspath(key)
    return tables


def own_configuration(tables: Tables, directory: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Make a configuration directory in *directory* with *tables* and all else that the user configured; return its variable.

    Raises UsageError if the user has such a file, too: which of both would count is not for us to say.
    """
    if not tables:
        return {}
    usual = environment.get("XDG_CONFIG_HOME") or os.path.join(environment.get("HOME", "/"), ".config")
    own = os.path.join(directory, "config")
    os.makedirs(os.path.join(own, "img"))
    _link_all(usual, own, but="img")
    _link_all(os.path.join(usual, "img"), os.path.join(own, "img"), but=_FILE)
    if os.path.exists(taken := os.path.join(usual, "img", _FILE)):
        raise UsageError(
            f"flags about registries and `{show(taken)}` exclude each other", hint="say it all in the file"
        )
    with open(os.path.join(own, "img", _FILE), "w", encoding="utf-8") as file:
        for name, table in tables.items():
            # A JSON text, number or list of texts is TOML as well.
            file.write(f"[registry.{json.dumps(name)}]\n")
            file.writelines(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
    return {"XDG_CONFIG_HOME": own}


def _link_all(source: str, target: str, *, but: str) -> None:
    if os.path.isdir(source):
        for name in os.listdir(source):
            if name != but:
                os.symlink(os.path.abspath(os.path.join(source, name)), os.path.join(target, name))


def _pair(flag: str, text: str) -> tuple[str, str]:
    host, equals, value = text.partition("=")
    if not equals or not host or not value:
        raise UsageError(f"`--{flag}` takes HOST=PATH, not `{show(text)}`")
    return host, value


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _with_scheme(mirror: str, scheme: str) -> str:
    return mirror if "://" in mirror else f"{scheme}://{mirror}"
