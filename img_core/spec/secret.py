"""Secret providers: where the secrets of a build come from (``--secret``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = ["SECRET_LIMIT", "SecretProvider"]

#: The most that a secret may have, in bytes, as in BuildKit.
SECRET_LIMIT = 500 * 1024


class SecretProvider(ABC):
    """Finds one secret of one build, e.g. for ``--secret id=token,src=token.txt``.

    Its content never appears in messages or in ``repr``, and is written nowhere. *environment* is the user's; the *options* are those that
    `complete` returned, checked by the schema. The constructor reads nothing.
    """

    name: ClassVar[str]  #: the word after ``type=``
    api: ClassVar[tuple[int, int]] = (1, 1)
    schema: ClassVar[Mapping[str, Any] | None] = None  #: JSON Schema of its options; Any: JSON

    def __init__(self, environment: Mapping[str, str], options: Mapping[str, Any] | None = None) -> None:
        self.environment = environment
        self.options = dict(options or {})

    @classmethod
    def claims(cls, secret: str, options: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
        """Tell whether the *options* of the secret with that id, which name no type, are for this provider. Changes nothing.

        The first of the configured order that says so gets it.
        """
        return False

    @classmethod
    def complete(cls, secret: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what names the secret with that id without its id, and from every directory. Complete options stay as they are."""
        return options

    def check(self) -> None:
        """Look before the build begins whether the secret can be had. Raises UsageError, ImgError; reads nothing that is secret."""

    @abstractmethod
    def get(self) -> bytes:
        """Return the secret as it is now; of one with more than `SECRET_LIMIT` bytes one more than that will do, to be refused.

        Called when a step wants it, for each that does, from any thread. Raises ImgError.
        """
