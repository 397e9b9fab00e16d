"""The image config that a stage builds up, and how it reads as an OCI document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from img_core.spec.values import Platform

__all__ = ["DEFAULT_PATH", "DEFAULT_SHELL", "StageConfig"]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")


@dataclass(slots=True, eq=False)
class StageConfig:
    """The part of an image config that instructions change. Mutable: one stage owns it; `copy` for a child stage."""

    env: dict[str, str] = field(default_factory=dict)
    user: str = ""
    ports: set[str] = field(default_factory=set)
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    args_escaped: bool = False
    volumes: set[str] = field(default_factory=set)
    working_dir: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    healthcheck: Mapping[str, Any] | None = None  # Any: JSON
    on_build: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()
    author: str = ""
    os_features: tuple[str, ...] = ()

    @classmethod
    def scratch(cls) -> StageConfig:
        """Return the config that ``FROM scratch`` starts with."""
        return cls(env={"PATH": DEFAULT_PATH}, working_dir="/")

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> StageConfig:
        """Take over the config of a base image; parts of unexpected type count as missing."""
        config = _mapping(document.get("config"))
        env = dict(item.partition("=")[::2] for item in _texts(config.get("Env")))
        env.setdefault("PATH", DEFAULT_PATH)
        return cls(
            env=env,
            user=_text(config.get("User")),
            ports=set(_mapping(config.get("ExposedPorts"))),
            entrypoint=_texts(config.get("Entrypoint")),
            cmd=_texts(config.get("Cmd")),
            args_escaped=config.get("ArgsEscaped") is True,
            volumes=set(_mapping(config.get("Volumes"))),
            working_dir=_text(config.get("WorkingDir")),
            labels={key: _text(value) for key, value in _mapping(config.get("Labels")).items()},
            stop_signal=_text(config.get("StopSignal")),
            healthcheck=_mapping(config.get("Healthcheck")) or None,
            on_build=_texts(config.get("OnBuild")),
            shell=_texts(config.get("Shell")),
            author=_text(document.get("author")),
            os_features=_texts(document.get("os.features")),
        )

    def copy(self) -> StageConfig:
        """Return an independent copy."""
        return replace(
            self, env=dict(self.env), ports=set(self.ports), volumes=set(self.volumes), labels=dict(self.labels)
        )

    def document(self, platform: Platform, labels: Mapping[str, str]) -> dict[str, Any]:
        """Return the OCI document without ``rootfs``, ``history`` and ``created``; *labels* override ours.

        Empty parts are left out, and keys that have no order of their own are sorted.
        """
        config = {
            "User": self.user,
            "ExposedPorts": _set(self.ports),
            "Env": [f"{key}={value}" for key, value in self.env.items()],
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.cmd),
            "Volumes": _set(self.volumes),
            "WorkingDir": self.working_dir,
            "Labels": dict(sorted({**self.labels, **labels}.items())),
            "StopSignal": self.stop_signal,
            "ArgsEscaped": self.args_escaped,
            "Healthcheck": dict(self.healthcheck or {}),
            "OnBuild": list(self.on_build),
            "Shell": list(self.shell),
        }
        head = {
            "author": self.author,
            "architecture": platform.architecture,
            "os": platform.os,
            "os.version": platform.os_version,
            "os.features": list(self.os_features),
            "variant": platform.variant,
        }
        return {**_filled(head), "config": _filled(config)}


def _filled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}


def _set(names: set[str]) -> dict[str, dict[str, str]]:
    return {name: {} for name in sorted(names)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list | tuple) else ()


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
