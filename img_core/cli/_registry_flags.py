"""Flags of podman's commands about registries that mean what we have: ``--tls-verify=false`` and ``--authfile``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

import click

from img_core.cli._base import OnByDefault, settings_of
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["podman_registry_flags"]

Function = TypeVar("Function", bound="Callable[..., Any]")


def podman_registry_flags(*, reads: bool = True) -> Callable[[Function], Function]:
    """Give a command with ``--insecure-registry`` podman's words, too; ``--authfile`` must exist if it is only read (*reads*)."""

    def take(context: click.Context, _parameter: click.Parameter, path: str) -> None:
        if path and reads and not os.path.exists(path):
            raise UsageError(f"cannot read `{path}`: no such file or directory", hint="`--authfile` names an auth.json")
        if path:
            settings_of(context).auth_file = os.path.abspath(path)

    def add(function: Function) -> Function:
        function = click.option("--authfile", default="", hidden=True, expose_value=False, callback=take)(function)
        return click.option("--tls-verify", cls=OnByDefault, off="--insecure-registry")(function)

    return add
