"""``--secret id=token,env=TOKEN``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from img_core.spec.secret import SecretProvider

__all__ = ["VariableSecret"]


class VariableSecret(SecretProvider):
    """The value of an environment variable; empty if there is none, as in BuildKit."""

    name = "env"
    schema = {  # noqa: RUF012 - the contract declares it as a class variable
        "type": "object",
        "additionalProperties": False,
        "properties": {"env": {"type": "string", "description": "name of the variable; without it that of the secret"}},
    }

    @classmethod
    def claims(cls, secret: str, options: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
        """Take what names a variable, and what names nothing but is called like one."""
        return bool(options.get("env") or (not options.get("src") and secret in environment))

    @classmethod
    def complete(cls, secret: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Name the variable, which ``type=env,src=VARIABLE`` does, too."""
        others = {key: value for key, value in options.items() if key != "src"}
        return {**others, "env": options.get("env") or options.get("src") or secret}

    def get(self) -> bytes:
        """Return the variable's value, byte for byte."""
        return os.fsencode(self.environment.get(self.options["env"], ""))
